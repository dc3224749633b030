//! Random input for every decoder of bytes that strangers send: none panics, allocates much more than its input, or breaks
//! a property in `targets`.
//!
//! Inputs are mutations of valid ones and of the files in `corpus/<target>`. A failure prints the seed and the input.
//! `ROLLCALL_SEED` starts with a given seed, `ROLLCALL_FUZZ_SECONDS` is the time of each target.

#![expect(unsafe_code, reason = "a global allocator that counts")]

mod corpus;
mod targets;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use targets::TARGETS;

/// Bytes that a decoder may allocate at once for small input, and for each further byte of input.
const MAX_BASE_BYTES: usize = 256 * 1024;
const MAX_BYTES_PER_BYTE: usize = 128;
const MAX_INPUT_BYTES: usize = 16 * 1024;

/// Counts the bytes that this thread has allocated.
struct Counter;

thread_local! {
    static USED: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Fails while the thread ends.
    let _ = USED.try_with(|used| {
        used.set(used.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(used.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTER: Counter = Counter;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: must be a number")))
}

fn run(name: &str) {
    let (_, target) = TARGETS.iter().find(|(other, _)| *other == name).expect("a target");
    let mut seeds = corpus::seeds(name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    if let Ok(files) = std::fs::read_dir(folder) {
        seeds.extend(files.map(|file| std::fs::read(file.expect("a file").path()).expect("is readable")));
    }
    let words = corpus::words(name);
    for input in &seeds {
        check(name, *target, input, "a file of the corpus");
    }
    let mut seed = setting("ROLLCALL_SEED").unwrap_or_else(|| rand::rng().random());
    let time = Duration::from_secs(setting("ROLLCALL_FUZZ_SECONDS").unwrap_or(2));
    let (started, mut runs) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        let input = mutate(&mut StdRng::seed_from_u64(seed), &seeds, &words);
        check(name, *target, &input, &format!("ROLLCALL_SEED={seed}"));
        seed = seed.wrapping_add(1);
        runs += 1;
    }
    println!("{name}: {runs} inputs");
    assert!(runs > 0);
}

fn check(name: &str, target: fn(&[u8]), input: &[u8], origin: &str) {
    PEAK.set(USED.get());
    let before = USED.get();
    let result = catch_unwind(AssertUnwindSafe(|| target(input)));
    let used = (PEAK.get() - before).unsigned_abs();
    let maximum = MAX_BASE_BYTES + MAX_BYTES_PER_BYTE * input.len();
    if result.is_err() || used > maximum {
        panic!(
            "{name}: {origin}: {used} bytes allocated, {}; input: \"{}\"",
            if result.is_err() { "panicked" } else { "which is too much" },
            input.escape_ascii()
        );
    }
}

/// A seed with some random changes.
fn mutate(random: &mut StdRng, seeds: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut input = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=8) {
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len().min(at + 32));
        match random.random_range(0..9) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => input.insert(at, random.random()),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            // Repeats a part, which also makes inputs long.
            5 => {
                let part = input[at..end].repeat(random.random_range(1..=64));
                input.splice(at..at, part);
            }
            6 => {
                let word = words[random.random_range(0..words.len())];
                input.splice(at..end, word.iter().copied());
            }
            7 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            // Lengths and counts at their ends.
            _ => {
                const ENDS: [&[u8]; 6] = [
                    &[0; 8],
                    &[0xff; 2],
                    &[0xff; 4],
                    &[0xff; 8],
                    &[0x7f, 0xff, 0xff, 0xff],
                    &[0x80, 0, 0, 0],
                ];
                let value = ENDS[random.random_range(0..ENDS.len())];
                let until = (at + value.len()).min(input.len());
                input.splice(at..until, value.iter().copied());
            }
        }
        input.truncate(MAX_INPUT_BYTES);
    }
    input
}

#[test]
fn websocket_frames() {
    run("frames");
}

#[test]
fn phoenix_messages() {
    run("phoenix");
}

#[test]
fn messages_of_the_other_dialects() {
    run("dialects");
}

#[test]
fn filters_and_parameters() {
    run("filters");
}

#[test]
fn replication_messages() {
    run("pgoutput");
}

#[test]
fn tokens() {
    run("jwt");
}

#[test]
fn notifications() {
    run("notifications");
}

#[test]
fn messages_between_nodes() {
    run("bus");
}

#[test]
fn request_bodies() {
    run("bodies");
}
