//! The clients in `clients/`, against a gateway and the emulated WeChat.

use std::path::Path;
use std::process::Command;

use crate::common::{APPID, NO_THROTTLE, World};

const ROUTES: &str = "
routes:
  - { path: /, access: authenticated, upstream: backend }
  - { path: /pub, access: optional, upstream: backend }
  - { path: /code200, access: authenticated, upstream: backend, reject: code_200 }
";

#[test]
fn the_client_of_mini_programs_keeps_its_promises() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/miniprogram");

    let output = Command::new("node")
        .args(["--test", "test/"])
        .current_dir(folder)
        .env("MENSHEN_GATEWAY", format!("http://{}", world.address()))
        .env("MENSHEN_EMULATOR", world.emulator_url())
        .env("MENSHEN_APPID", APPID)
        .output()
        .expect("node runs");

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("# skipped 0"), "{text}");
}
