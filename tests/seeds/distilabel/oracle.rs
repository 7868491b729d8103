//! What comes of the prompts, by the prompts alone.

use crate::program::ROWS;

/// The output of a run that nobody interrupted.
pub(crate) fn dataset(prompts: &[String]) -> String {
    prompts.iter().map(|prompt| line(prompt)).collect()
}

/// Of its first batches.
pub(crate) fn first(prompts: &[String], batches: u64) -> String {
    let rows = usize::try_from(batches).unwrap() * ROWS;
    dataset(&prompts[..rows.min(prompts.len())])
}

/// The prompts of one batch.
pub(crate) fn of_batch(prompts: &[String], number: u64) -> &[String] {
    let batches: Vec<&[String]> = prompts.chunks(ROWS).collect();
    batches[usize::try_from(number).unwrap()]
}

pub(crate) fn batches(prompts: &[String]) -> u64 {
    prompts.chunks(ROWS).len() as u64
}

pub(crate) fn generation(prompt: &str) -> String {
    let mut letters: Vec<char> = prompt.chars().collect();
    letters.reverse();
    letters.iter().collect()
}

pub(crate) fn score(prompt: &str) -> u64 {
    // Backwards, the letters are the same ones.
    prompt
        .bytes()
        .fold(0, |sum, byte| (sum + u64::from(byte)) % 101)
}

fn line(prompt: &str) -> String {
    format!("{prompt}\t{}\t{}\n", generation(prompt), score(prompt))
}
