//! Bindings: a change on one node holds on the others within a second.

use serde_json::json;

use super::*;
use crate::common::{APPID, Recorded};

/// The user that a node tells the backend.
fn forwarded_user(node: &Process, login: &Value) -> String {
    let response = visit(node, token(login));
    assert_eq!(response.status, 200, "{}", response.text());
    Recorded { head: response.text(), body: Vec::new() }.folded("X-WX-USER-ID").join(",")
}

#[test]
fn person_bound_or_unbound_on_one_node_is_so_on_the_other_within_a_second() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, NO_THROTTLE);
    let mut times = Vec::new();
    let login = cluster.sign_in(0, "alice");
    let bystander = cluster.sign_in(0, "bob");
    let unionid = cluster.world.emulator.unionid(APPID, "alice").unwrap();
    let in_app = json!({ "app": "shop", "openid": login["openid"] });
    let in_all_apps = json!({ "unionid": unionid });
    for round in 0..12 {
        let ([one, other], user) = ([round % 2, (round + 1) % 2], format!("user-{round}"));
        let (node, elsewhere) = (&cluster.nodes[one], &cluster.nodes[other]);
        let who = if round % 3 == 2 { &in_all_apps } else { &in_app };
        let mut bind = who.clone();
        bind["user"] = json!(user);
        bind["claims"] = json!({ "role": "editor" });
        // Both remember the token and its user.
        cluster.warm(one, &login);
        cluster.warm(other, &login);

        let bound = change_block(node, "bind", &bind);

        assert_eq!((bound.status, &bound.json()["changed"]), (200, &json!(true)), "round {round}");
        assert_eq!(forwarded_user(node, &login), user, "at once, round {round}");
        times.push(time_until("the other node tells the user", || forwarded_user(elsewhere, &login) == user));
        assert_eq!(forwarded_user(elsewhere, &bystander), "", "round {round}");

        assert_eq!(change_block(elsewhere, "unbind", who).json()["changed"], true, "round {round}");
        assert_eq!(forwarded_user(elsewhere, &login), "", "at once, round {round}");
        times.push(time_until("the first node tells no user", || forwarded_user(node, &login).is_empty()));
    }
    assert!(times.iter().all(|time| *time < SECOND), "{times:?}");
    report("told by the other node after a binding or its end", times);
}

#[test]
fn a_binding_that_cannot_be_read_denies_on_every_node_until_it_is_mended() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, NO_THROTTLE);
    let login = cluster.sign_in(0, "alice");
    let bind = json!({ "app": "shop", "openid": login["openid"], "user": "42" });
    assert_eq!(change_block(&cluster.nodes[0], "bind", &bind).status, 200);
    assert_eq!(forwarded_user(&cluster.nodes[0], &login), "42");
    let keys = redis.command(&["keys", "menshen:p:*"]);
    let key = keys.trim();
    assert_eq!(keys.lines().count(), 1, "{keys}");
    assert!(!keys.contains(login["openid"].as_str().unwrap()), "{keys}");

    redis.command(&["set", key, "garbage"]);

    for node in &cluster.nodes {
        // What is believed from before is looked up again when its time is over.
        eventually("nobody is let in", || visit(node, token(&login)).status == 503);
    }
    let refused = change_block(&cluster.nodes[1], "bind", &bind);
    assert_eq!((refused.status, &refused.json()["changed"]), (200, &json!(true)));
    assert_eq!(forwarded_user(&cluster.nodes[1], &login), "42");
    eventually("the other node lets in again", || visit(&cluster.nodes[0], token(&login)).status == 200);
}
