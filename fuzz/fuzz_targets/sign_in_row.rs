#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| menshen::fuzz::sign_in_row(data));
