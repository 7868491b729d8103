//! What stands in a checkpoint's file: one line of text that says what follows, then the state as
//! JSON.
//!
//! ```text
//! winddown checkpoint 1 state 3 generation 42 bytes 17 crc32 9ae0daaf
//! {"next":300,"of":900}
//! ```
//!
//! Length and checksum find whatever is torn, cut off or flipped; the checksum covers the line
//! before it too.

use thiserror::Error;

/// Of this layout; another one is another number.
const LAYOUT: u32 = 1;

const MAGIC: &str = "winddown checkpoint ";

/// Longer than every first line.
const LONGEST: usize = 200;

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents<'a> {
    /// The version of the state's shape, as the program counts it.
    pub(super) version: u32,
    pub(super) generation: u64,
    pub(super) state: &'a [u8],
}

/// Why a checkpoint's file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is not there, though one from before is: its writer was killed at the very moment, on a
    /// file system without links.
    #[error("it is not there")]
    Missing,
    /// It is something else.
    #[error("it is no checkpoint")]
    Foreign,
    /// It is shorter than it says, or empty: its end was never written, or has been cut off.
    #[error("it is cut off")]
    CutOff,
    /// The checksum says that something in it has changed.
    #[error("its checksum is wrong")]
    Altered,
    /// It was written by a later version of this crate.
    #[error("its layout {0} is not known here")]
    #[non_exhaustive]
    Layout(u32),
}

pub(super) fn encode(contents: &Contents<'_>) -> Vec<u8> {
    let Contents {
        version,
        generation,
        state,
    } = contents;
    let bytes = state.len();
    let mut file =
        format!("{MAGIC}{LAYOUT} state {version} generation {generation} bytes {bytes} crc32 ")
            .into_bytes();
    let checksum = checksum(&file, state);
    file.extend_from_slice(format!("{checksum:08x}\n").as_bytes());
    file.extend_from_slice(state);
    file.push(b'\n');
    file
}

fn checksum(line: &[u8], state: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(line);
    hasher.update(state);
    hasher.finalize()
}

pub(super) fn decode(file: &[u8]) -> Result<Contents<'_>, Damage> {
    let known = file.len().min(MAGIC.len());
    if file[..known] != MAGIC.as_bytes()[..known] {
        return Err(Damage::Foreign);
    }
    let start = &file[..file.len().min(LONGEST)];
    let Some(end) = start.iter().position(|byte| *byte == b'\n') else {
        return Err(if file.len() < LONGEST {
            Damage::CutOff
        } else {
            Damage::Altered
        });
    };
    let line = std::str::from_utf8(&file[..end]).map_err(|_| Damage::Altered)?;
    let mut words = line[MAGIC.len()..].split(' ');
    let layout = words.next().and_then(|word| word.parse().ok());
    match layout {
        Some(LAYOUT) => {}
        Some(other) => return Err(Damage::Layout(other)),
        None => return Err(Damage::Altered),
    }
    let mut number = |name: &str| {
        let named = words.next() == Some(name);
        words.next().filter(|_| named).ok_or(Damage::Altered)
    };
    let altered = |_| Damage::Altered;
    let version = number("state")?.parse().map_err(altered)?;
    let generation = number("generation")?.parse().map_err(altered)?;
    let bytes: usize = number("bytes")?.parse().map_err(altered)?;
    let said = number("crc32")?;
    let state = &file[end + 1..];
    if state.len() < bytes.saturating_add(1) {
        return Err(Damage::CutOff);
    }
    if state.len() > bytes + 1 || state[bytes] != b'\n' || words.next().is_some() {
        return Err(Damage::Altered);
    }
    let state = &state[..bytes];
    let checked = &file[..end - said.len()];
    // As text, since a parser takes signs and capital letters too.
    if said != format!("{:08x}", checksum(checked, state)) {
        return Err(Damage::Altered);
    }
    Ok(Contents {
        version,
        generation,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<u8> {
        encode(&Contents {
            version: 3,
            generation: 42,
            state: br#"{"next":300,"of":900}"#,
        })
    }

    #[test]
    fn what_goes_in_comes_out_and_can_be_read() {
        let file = example();
        let text = String::from_utf8(file.clone()).unwrap();
        assert!(text.starts_with("winddown checkpoint 1 state 3 generation 42 bytes 21 crc32 "));
        let contents = decode(&file).unwrap();
        assert_eq!((contents.version, contents.generation), (3, 42));
        assert_eq!(contents.state, br#"{"next":300,"of":900}"#);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let file = example();
        for length in 0..file.len() {
            assert_eq!(
                decode(&file[..length]),
                Err(Damage::CutOff),
                "{length} bytes"
            );
        }
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for extra in [&b"\n"[..], b"x", &file] {
            let longer = [&file, extra].concat();
            assert_eq!(decode(&longer), Err(Damage::Altered));
        }
    }

    #[test]
    fn what_is_something_else_is_said_to_be() {
        assert_eq!(decode(b"#!/bin/sh\n"), Err(Damage::Foreign));
        assert_eq!(decode(&[0; 4096]), Err(Damage::Foreign));
        assert_eq!(decode(b""), Err(Damage::CutOff));
        let later = b"winddown checkpoint 2 whatever\n";
        assert_eq!(decode(later), Err(Damage::Layout(2)));
        assert_eq!(
            decode(&[MAGIC.as_bytes(), &[b'1'; 300]].concat()),
            Err(Damage::Altered)
        );
    }
}
