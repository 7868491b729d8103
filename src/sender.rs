//! What the process that sent a signal calls itself.
//!
//! Looked up by whoever asks for the reason, never by a handler (P12): it opens a file. On Linux
//! `/proc/PID/comm`, which the system answers out of its own memory: the other process is not
//! waited for, as it would be for its command line. Elsewhere there is no name.

use std::fmt;

/// As much as the system keeps of a name.
const KEPT: usize = 15;

/// A process's name for itself, fit to be shown. In one piece, so that a reason stays `Copy`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderName {
    length: usize,
    bytes: [u8; KEPT],
}

impl SenderName {
    /// A name may hold any bytes, and its owner chooses them. What could drive a terminal, end the
    /// line, or close the parentheses that it is shown in is replaced.
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android", test)),
        expect(dead_code, reason = "no process is looked at there")
    )]
    pub(crate) fn cleaned(name: &[u8]) -> Option<Self> {
        let mut clean = Self {
            length: 0,
            bytes: [0; KEPT],
        };
        let characters = name.utf8_chunks().flat_map(|chunk| {
            let broken = (!chunk.invalid().is_empty()).then_some('\0');
            chunk.valid().chars().chain(broken)
        });
        for character in characters {
            let fit = match character {
                '(' => '[',
                ')' => ']',
                ' ' => ' ',
                c if c.is_ascii_graphic() || c.is_alphanumeric() => c,
                _ => '?',
            };
            // Threads of the system's own have longer names.
            let Some(place) = clean.bytes[clean.length..].get_mut(..fit.len_utf8()) else {
                break;
            };
            clean.length += fit.encode_utf8(place).len();
        }
        (clean.length > 0).then_some(clean)
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only whole characters were pushed.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Debug for SenderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The name of process `pid`, if it still lives and may be looked at.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn name_of(pid: u32) -> Option<SenderName> {
    // 0 lives outside the pid namespace. And a `/proc` that shows another namespace than this
    // process lives in would name somebody else.
    let shown = std::fs::read_link("/proc/self").ok()?;
    if pid == 0 || shown.to_str() != Some(&std::process::id().to_string()) {
        return None;
    }
    let comm = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    SenderName::cleaned(comm.strip_suffix(b"\n").unwrap_or(&comm))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn name_of(_: u32) -> Option<SenderName> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn cleaned(name: &[u8]) -> Option<String> {
        SenderName::cleaned(name).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_name_is_shown_as_it_is_where_that_is_harmless() {
        for name in ["docker-init", "kworker/0:1", "my app", "größe", "日本語"] {
            assert_eq!(cleaned(name.as_bytes()).as_deref(), Some(name));
        }
        assert_eq!(cleaned(b""), None);
    }

    #[test]
    fn no_bytes_are_trouble_and_none_makes_it_longer() {
        for first in 0..=u8::MAX {
            for second in [0, b')', b'\n', 0x9b, 0xc2, 0xff] {
                let name = cleaned(&[first, second, first]).unwrap();
                assert!(name.len() <= 3, "{name:?}");
                assert!(!name.contains(['(', ')']), "{name:?}");
                assert!(!name.chars().any(char::is_control), "{name:?}");
            }
        }
        assert_eq!(cleaned(&[b'a'; 64]).unwrap().len(), KEPT);
        assert_eq!(cleaned("äääääääää".as_bytes()).unwrap().len(), KEPT - 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_a_name_and_nobody_has_none() {
        let comm = std::fs::read("/proc/self/comm").unwrap();
        assert_eq!(
            name_of(std::process::id()),
            SenderName::cleaned(comm.trim_ascii_end())
        );
        assert_eq!(name_of(0), None);
        // Above the largest that the system gives out.
        assert_eq!(name_of(u32::MAX), None);
    }
}
