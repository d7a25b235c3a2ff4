//! The client of WeChat's API against the emulator: what its sign-in pages give is what the client
//! reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use menshen::clock::SystemClock;
use menshen::config::{self, AppKind, BrowserCheck, Findings, OAuthScope, SecretSource};
use menshen::emulator::{self, EmulatedSignIn, Emulator, User};
use menshen::entropy::SystemEntropy;
use menshen::identity::{OpenId, Profile, UnionId};
use menshen::telemetry::metrics::Metrics;
use menshen::wechat::{Code, PageExchange, WeChat, WeChatError};

const SITE: &str = "wxe000000000000004";
const ACCOUNT: &str = "wxe000000000000005";

struct Harness {
    emulator: Arc<Emulator>,
    wechat: WeChat,
    _running: emulator::Running,
}

impl Harness {
    fn new(users: Vec<User>) -> Self {
        let config = emulator::Config { users, ..Default::default() };
        let emulator = Emulator::new(config, Arc::new(SystemClock), Arc::new(SystemEntropy));
        let running = emulator.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let config =
            config::WeChat { hosts: vec![format!("http://{}", running.address)], ..Default::default() };
        let apps = BTreeMap::from([
            ("site".to_owned(), app(AppKind::Website, SITE, "emulator-secret-4", None)),
            (
                "account".to_owned(),
                app(AppKind::OfficialAccount, ACCOUNT, "emulator-secret-5", Some(OAuthScope::UserInfo)),
            ),
        ]);
        let mut findings = Findings::default();
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let metrics = Metrics::new().unwrap();
        let wechat = WeChat::build(&config, &apps, &metrics, clock, entropy, &mut findings);
        Self { emulator, wechat: wechat.unwrap_or_else(|| panic!("{findings:?}")), _running: running }
    }

    fn code(&self, appid: &str, scope: &str) -> Code {
        let order = EmulatedSignIn {
            appid: appid.into(),
            wxid: "alice".into(),
            redirect_uri: "http://127.0.0.1:8080/auth/web/site/callback".into(),
            scope: scope.into(),
            state: "abc".into(),
        };
        Code::parse(&self.emulator.sign_in(&order).unwrap().code).unwrap()
    }

    async fn exchange(&self, app: &str, code: &Code) -> Result<PageExchange, WeChatError> {
        self.wechat.exchange_page_code(self.wechat.app(app).unwrap(), code).await
    }
}

fn app(kind: AppKind, appid: &str, secret: &str, scope: Option<OAuthScope>) -> config::App {
    let secret = SecretSource::Inline(secret.into());
    config::App {
        kind,
        appid: appid.into(),
        secret,
        title: None,
        scope,
        browser_check: BrowserCheck::default(),
        code_login: false,
        unknown_unionid: None,
        app_token: config::AppTokenApi::default(),
        hand_over: None,
    }
}

fn alice() -> User {
    let avatar = Some("https://thirdwx.qlogo.cn/a/132".into());
    User { nickname: Some("爱丽丝😀".into()), avatar, ..User::new("alice") }
}

#[tokio::test]
async fn a_page_gives_the_person_and_as_much_more_as_its_scope_says() {
    let harness = Harness::new(vec![alice()]);

    for (name, appid, scope, is_told) in [
        ("site", SITE, "snsapi_login", true),
        ("account", ACCOUNT, "snsapi_userinfo", true),
        ("account", ACCOUNT, "snsapi_base", false),
    ] {
        let exchange = harness.exchange(name, &harness.code(appid, scope)).await.unwrap();

        assert_eq!(exchange.openid, OpenId::parse(&harness.emulator.openid(appid, "alice")).unwrap());
        let unionid = harness.emulator.unionid(appid, "alice").filter(|_| is_told);
        assert_eq!(exchange.unionid.as_ref().map(UnionId::as_str), unionid.as_deref(), "{scope}");
        assert_eq!(unionid.is_some(), is_told, "{scope}");
        let profile = Profile::new("爱丽丝😀", "https://thirdwx.qlogo.cn/a/132");
        assert_eq!(exchange.profile, Some(profile).filter(|_| is_told), "{scope}");
    }
}

#[tokio::test]
async fn a_code_is_worth_nothing_for_another_app_or_at_another_endpoint_or_twice() {
    let harness = Harness::new(vec![alice()]);
    let site = harness.wechat.app("site").unwrap();

    let of_account = harness.code(ACCOUNT, "snsapi_base");
    assert_eq!(harness.exchange("site", &of_account).await.unwrap_err(), WeChatError::CodeInvalid);
    let of_page = harness.code(SITE, "snsapi_login");
    assert_eq!(harness.wechat.exchange_code(site, &of_page).await.unwrap_err(), WeChatError::CodeInvalid);
    harness.exchange("site", &of_page).await.unwrap();
    assert_eq!(harness.exchange("site", &of_page).await.unwrap_err(), WeChatError::CodeAlreadyUsed);
}

#[tokio::test]
async fn a_visitor_of_a_snapshot_page_does_not_sign_in() {
    let harness = Harness::new(vec![User { snapshot: true, ..alice() }]);

    let code = harness.code(ACCOUNT, "snsapi_userinfo");

    assert_eq!(harness.exchange("account", &code).await.unwrap_err(), WeChatError::SnapshotVisitor);
}
