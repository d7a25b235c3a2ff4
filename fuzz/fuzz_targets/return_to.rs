#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| menshen::fuzz::return_to(data));
