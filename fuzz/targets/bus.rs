#![no_main]
#![allow(dead_code, reason = "each target uses one of the functions")]

#[path = "../../tests/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::bus(data));
