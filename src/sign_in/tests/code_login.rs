//! Pages of another origin that bring the code of an official account.

use super::*;
use crate::config::BrowserCheck;

const GRANT: &str =
    r#"{"access_token":"T","expires_in":7200,"refresh_token":"R","openid":"oPerson","scope":"snsapi_base"}"#;

const ACCOUNT: (&str, AppKind, BrowserCheck) = ("account", AppKind::OfficialAccount, BrowserCheck::Strict);
const OTHER: (&str, AppKind, BrowserCheck) = ("other", AppKind::OfficialAccount, BrowserCheck::Strict);
const WEBSITE: (&str, AppKind, BrowserCheck) = ("site", AppKind::Website, BrowserCheck::Strict);

async fn harness(replies: impl IntoIterator<Item = Reply>, change: impl FnOnce(&mut Setup)) -> Harness {
    Harness::with(replies, |setup| {
        setup.browser_apps = vec![ACCOUNT];
        setup.code_login = true;
        setup.wechat.widget = None;
        change(setup);
    })
    .await
}

async fn log_in(harness: &Harness, app: Option<&str>) -> SignInAnswer {
    let mut body = json!({ "code": CODE });
    if let Some(app) = app {
        body["app"] = app.into();
    }
    harness.send(login_request(&body.to_string())).await
}

#[tokio::test]
async fn code_of_an_official_account_becomes_tokens_only_if_the_app_says_so() {
    for (is_on, expected) in [(true, "ok"), (false, "app_unknown")] {
        let harness = harness([Reply::json(GRANT)], |setup| setup.code_login = is_on).await;

        let answer = log_in(&harness, Some("account")).await;

        assert_eq!(answer.outcome, expected);
        let asked = harness.fake.requests();
        assert_eq!(asked.len(), usize::from(is_on), "{asked:?}");
        if is_on {
            assert!(asked[0].contains("/sns/oauth2/access_token?"), "{asked:?}");
            let document = json_of(&answer);
            assert_eq!((&document["openid"], &document["token_type"]), (&json!("oPerson"), &json!("Bearer")));
            let token = document["access_token"].as_str().unwrap();
            let claims = harness.login.deps.tokens.verify(token, harness.clock.now()).unwrap();
            assert_eq!(claims.identity().subject.to_string(), "wx1:oPerson");
            let refresh = json!({ "refresh_token": document["refresh_token"] }).to_string();
            let again =
                harness.send(request("POST", "/auth/refresh", Some("application/json"), &refresh)).await;
            assert_eq!((again.outcome, again.app.as_deref()), ("refreshed", Some("account")));
            let flow = ["wechat", "official_account", "ok"];
            assert_eq!(harness.metrics.logins.with_label_values(&flow).get(), 1);
        }
    }
}

#[tokio::test]
async fn profile_that_the_page_asked_for_is_kept_with_the_session() {
    let grant = GRANT.replace("snsapi_base", "snsapi_userinfo");
    let info = r#"{"openid":"oPerson","nickname":"长安","headimgurl":"https://thirdwx.qlogo.cn/x","unionid":"uPerson"}"#;
    let harness = harness([Reply::json(&grant), Reply::json(info)], |_| {}).await;

    let document = json_of(&log_in(&harness, Some("account")).await);

    assert_eq!(document["unionid"], "uPerson");
    let mut asked = request("GET", "/auth/session", None, "");
    let bearer = format!("Bearer {}", document["access_token"].as_str().unwrap());
    asked.headers_mut().insert("authorization", bearer.parse().unwrap());
    let session = json_of(&harness.send(asked).await);
    assert_eq!((&session["app"], &session["nickname"]), (&json!("account"), &json!("长安")));
}

#[tokio::test]
async fn app_may_be_left_out_only_if_that_names_one() {
    for (apps, browser_apps, named, expected) in [
        (vec![], vec![ACCOUNT], None, "ok"),
        (vec![], vec![ACCOUNT, OTHER], None, "app_missing"),
        (vec![], vec![ACCOUNT, OTHER], Some("other"), "ok"),
        (vec![], vec![WEBSITE], None, "app_missing"),
        (vec![], vec![WEBSITE], Some("site"), "app_unknown"),
        // Mini programs that name no app go on as before.
        (vec!["shop"], vec![ACCOUNT], None, "ok"),
        (vec!["shop"], vec![ACCOUNT], Some("account"), "ok"),
        (vec!["news", "shop"], vec![ACCOUNT], None, "app_missing"),
    ] {
        let is_of_mini_program = !apps.is_empty() && named.is_none();
        let case = format!("{apps:?} {browser_apps:?} {named:?}");
        let reply = if is_of_mini_program { SUCCESS } else { GRANT };
        let harness = harness([Reply::json(reply)], |setup| {
            (setup.apps, setup.browser_apps) = (apps, browser_apps);
        })
        .await;

        assert_eq!(log_in(&harness, named).await.outcome, expected, "{case}");
    }
}

#[tokio::test]
async fn what_wechat_says_of_a_code_is_answered_as_to_a_mini_program() {
    let snapshot = GRANT.replace('}', r#","is_snapshotuser":1}"#);
    let error = |errcode: i64| format!(r#"{{"errcode":{errcode}}}"#);
    for (reply, expected) in [
        (snapshot, (403, "snapshot_visitor")),
        (error(40029), (401, "code_invalid")),
        (error(40163), (401, "code_already_used")),
        (error(40226), (403, "user_blocked")),
        (error(-1), (503, "wechat_busy")),
    ] {
        let harness = harness([Reply::json(&reply)], |_| {}).await;

        let refused = refusal_of(&log_in(&harness, Some("account")).await);

        assert_eq!((refused.0, refused.1), expected, "{reply}");
    }
    let harness =
        harness([Reply::json(GRANT)], |setup| setup.unknown_unionid = Some(config::UnknownUnionId::Refuse))
            .await;
    let refused = refusal_of(&log_in(&harness, Some("account")).await);
    assert_eq!((refused.0, refused.1), (403, "unionid_unknown"), "the page chose the scope");
}
