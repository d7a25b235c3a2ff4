//! Sign-in of a mobile app, with a code that WeChat's SDK gave it.

use super::*;

const INFO: &str = r#"{"openid":"oPhone","nickname":"长安","headimgurl":"","unionid":"uPerson"}"#;

fn grant(scope: &str) -> Reply {
    Reply::json(&format!(
        r#"{{"access_token":"T","expires_in":7200,"refresh_token":"R","openid":"oPhone","scope":"{scope}","unionid":"uPerson"}}"#
    ))
}

async fn harness(replies: impl IntoIterator<Item = Reply>, apps: Vec<&'static str>) -> Harness {
    Harness::with(replies, |setup| {
        setup.apps = apps;
        setup.browser_apps = vec![("phone", AppKind::Mobile, config::BrowserCheck::Strict)];
    })
    .await
}

async fn login(harness: &Harness, body: Value) -> SignInAnswer {
    harness.send(login_request(&body.to_string())).await
}

#[tokio::test]
async fn a_code_of_the_sdk_becomes_a_session_with_the_unionid() {
    let harness = harness([grant("snsapi_userinfo"), Reply::json(INFO)], vec!["shop"]).await;

    let answer = login(&harness, json!({ "code": CODE, "app": "phone" })).await;

    let document = json_of(&answer);
    assert_eq!(
        (answer.outcome, &document["openid"], &document["unionid"]),
        ("ok", &json!("oPhone"), &json!("uPerson"))
    );
    assert!(document["refresh_token"].is_string());
    assert_eq!(harness.metrics.logins.with_label_values(&["wechat", "mobile", "ok"]).get(), 1);
}

#[tokio::test]
async fn a_code_of_another_scope_is_refused() {
    for scope in ["snsapi_base", "snsapi_login", "snsapi_userinfo,snsapi_login", ""] {
        let harness = harness([grant(scope), Reply::json(INFO)], vec![]).await;

        let answer = login(&harness, json!({ "code": CODE, "app": "phone" })).await;

        assert_eq!(refusal_of(&answer), (401, "code_invalid", "invalid_grant".into()), "{scope}");
    }
}

#[tokio::test]
async fn the_only_mobile_app_need_not_be_named_where_there_is_no_other_app() {
    let alone = harness([grant("snsapi_userinfo"), Reply::json(INFO)], vec![]).await;
    let beside = harness([Reply::json(SUCCESS)], vec!["shop"]).await;

    assert_eq!(login(&alone, json!({ "code": CODE })).await.app.as_deref(), Some("phone"));
    assert_eq!(login(&beside, json!({ "code": CODE })).await.app.as_deref(), Some("shop"));
}

#[tokio::test]
async fn a_browser_cannot_sign_in_to_a_mobile_app() {
    let harness = harness([], vec![]).await;
    let mut request = request("GET", "/auth/web/phone/start", None, "");
    request.headers_mut().insert("accept", "text/html".parse().unwrap());

    assert_eq!(harness.send(request).await.response.status().as_u16(), 404);
}
