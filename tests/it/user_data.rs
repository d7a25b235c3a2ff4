//! WeChat's sealed user data: what an emulated WeChat sealed is opened for its user.

use serde_json::{Value, json};

use crate::common::{APPID, Response, World};

const SECTIONS: &str = "
listeners: [{ address: '127.0.0.1:{port}' }]
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
wechat: { hosts: ['{emulator}'] }
user_data: { max_age: 5m, client: [openId, nickName, phoneNumber, stepInfoList] }
routes: [{ path: /, access: authenticated, upstream: backend }]
";

fn sign_in(world: &World, person: &str) -> String {
    let response = world.login_with(&format!(r#"{{"code":"{}"}}"#, world.code(person)));
    response.json()["access_token"].as_str().expect("a token").to_owned()
}

fn decrypt(world: &World, token: &str, sealed: &menshen::emulator::SealedUserData) -> Response {
    let body = json!({ "encryptedData": sealed.encrypted_data, "iv": sealed.iv }).to_string();
    world.send(&format!(
        "POST /auth/wechat/decrypt HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn what_wechat_sealed_is_opened_for_its_user_alone() {
    let world = World::with(SECTIONS);
    let (alice, bob) = (sign_in(&world, "alice"), sign_in(&world, "bob"));
    let openid = world.emulator.openid(APPID, "alice");
    let steps = json!({ "stepInfoList": [{ "timestamp": 1_445_866_601, "step": 100 }] });
    let phone =
        json!({ "phoneNumber": "13580006666", "purePhoneNumber": "13580006666", "countryCode": "86" });
    let nickname = |opened: &Value| opened["nickName"].is_string();
    for (data, expected) in [
        (Some(steps.clone()), json!({ "openId": openid, "stepInfoList": steps["stepInfoList"] })),
        (Some(phone), json!({ "openId": openid, "phoneNumber": "13580006666" })),
        (None, Value::Null),
    ] {
        let sealed = world.emulator.encrypt(APPID, "alice", data).unwrap();

        let opened = decrypt(&world, &alice, &sealed);
        let of_bob = decrypt(&world, &bob, &sealed);

        assert_eq!(opened.status, 200, "{}", opened.text());
        assert!(
            opened.json() == expected || expected.is_null() && nickname(&opened.json()),
            "{}",
            opened.text()
        );
        assert_eq!((of_bob.status, &of_bob.json()["code"]), (409, &"session_key_stale".into()));
    }
}

#[test]
fn a_client_with_a_stale_key_signs_in_again_and_asks_again() {
    let world = World::with(SECTIONS);
    let before = sign_in(&world, "alice");
    let sealed = world.emulator.encrypt(APPID, "alice", None).unwrap();
    assert_eq!(decrypt(&world, &before, &sealed).status, 200);
    let mut text = sealed.clone();
    text.iv = "AAAAAAAAAAAAAAAAAAAAAA==".into();
    assert_eq!(decrypt(&world, &before, &text).status, 409);

    let after = sign_in(&world, "alice");
    let sealed = world.emulator.encrypt(APPID, "alice", None).unwrap();

    assert_eq!(decrypt(&world, &after, &sealed).status, 200);
}
