//! A mobile app signs in with a code that WeChat's SDK gave it.

use menshen::emulator::{App, Config};
use serde_json::json;

use crate::common::{APPID, Backend, Response, World};

const MOBILE: &str = "wxe000000000000016";
const SECTIONS: &str = "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  phone: { kind: mobile, appid: wxe000000000000016, secret: emulator-secret-16 }
routes: [{ path: /, access: authenticated, upstream: backend }]
";

fn world() -> World {
    let mut config = Config::default();
    config.apps.push(App::new(MOBILE, "emulator-secret-16").on("emulator-platform").mobile());
    World::with_parts(config, Backend::echo(), SECTIONS)
}

fn login(world: &World, app: &str, code: &str) -> Response {
    world.login_with(&json!({ "app": app, "code": code }).to_string())
}

#[test]
fn user_of_a_mobile_app_is_the_user_of_the_mini_program_by_unionid() {
    let world = world();
    let code = world.emulator.sdk_code(MOBILE, "alice").unwrap();

    let response = login(&world, "phone", &code);

    assert_eq!(response.status, 200, "{}", response.text());
    let document = response.json();
    assert_eq!(document["openid"], world.emulator.openid(MOBILE, "alice"));
    assert_eq!(document["unionid"], world.emulator.unionid(APPID, "alice").unwrap());
    let bearer = format!("Authorization: Bearer {}\r\n", document["access_token"].as_str().unwrap());
    assert_eq!(world.get("/page", &bearer).status, 200);
    let request = world.backend.last();
    assert_eq!(request.header("x-wx-appid"), [MOBILE]);
    assert_eq!(request.header("x-wx-source"), ["wx_client"]);
}

#[test]
fn code_of_another_app_or_kind_is_refused() {
    let world = world();
    let of_the_program = world.emulator.wx_login(APPID, "alice").unwrap();
    let of_the_app = world.emulator.sdk_code(MOBILE, "alice").unwrap();
    for (app, code) in [("phone", of_the_program), ("shop", of_the_app), ("phone", "made-up".into())] {
        let response = login(&world, app, &code);

        assert_eq!((response.status, &response.json()["code"]), (401, &"code_invalid".into()), "{app}");
    }
    assert!(world.emulator.sdk_code(APPID, "alice").is_err());
}
