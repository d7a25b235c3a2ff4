#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| menshen::fuzz::user_data(data));
