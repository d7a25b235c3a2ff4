//! Two gateways on one Redis: a browser may leave from one and come back to the other.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use menshen::emulator::Config;

use crate::cluster::COMMON;
use crate::common::redis::RedisServer;
use crate::common::site::SESSION;
use crate::common::{Site, Visitor, eventually, now};
use crate::process::Process;

/// The name that the nodes share, as behind a balancer.
const HOST: &str = "localhost:8080";

/// Dropped in this order: what the nodes wrote is searched while the secrets are known.
struct Nodes {
    nodes: [Process; 2],
    site: Site,
    _redis: RedisServer,
}

impl Nodes {
    fn start() -> Self {
        let redis = RedisServer::start();
        let common = COMMON.replace("{redis}", &redis.address().to_string());
        let mut site = Site::with(
            Config::default(),
            &[
                ("address: '127.0.0.1:{port}'", "address: '127.0.0.1:0'"),
                ("'http://127.0.0.1:{port}', 'http://localhost:{port}'", &format!("'http://{HOST}'")),
                ("\nlogin:\n", &format!("{common}login:\n")),
            ],
        );
        let nodes = [Process::like(&site.world), Process::like(&site.world)];
        // A third node would count and exchange as well.
        site.world.stop();
        for node in &nodes {
            eventually("the node is ready", || node.admin("/readyz") == "ready\n");
        }
        Self { nodes, site, _redis: redis }
    }

    /// A browser that is directed to this node.
    fn visitor(&self, node: usize) -> Visitor {
        let mut visitor = Visitor::at(self.nodes[node].address);
        visitor.host = HOST.to_owned();
        visitor
    }
}

#[test]
fn sign_in_that_begins_on_one_node_can_end_on_another() {
    let shared = Nodes::start();
    for (from, to) in [(0, 1), (1, 0)] {
        let mut visitor = shared.visitor(from);
        let begun = visitor.begin("site", "/page");

        let mut visitor = visitor.at_node(shared.nodes[to].address);
        let back = visitor.come_back(&shared.site.world.emulator, &begun, "alice");

        assert_eq!((back.status, back.header("location")), (303, Some("/page")), "{}", back.text());
        for node in &shared.nodes {
            assert_eq!(visitor.at_node(node.address).open("/page").status, 200);
        }
    }
    assert_eq!(shared.site.exchanges(), 2);
}

#[test]
fn same_way_back_at_both_nodes_at_once_is_one_exchange_and_one_session() {
    let shared = Nodes::start();
    for round in 0..5 {
        let mut visitor = shared.visitor(0);
        let begun = visitor.begin("site", "/page");
        let path = begun.callback(&shared.site.world.emulator, "alice");
        let exchanges = shared.site.exchanges();
        let together = Barrier::new(8);

        let come_back = |node: usize| {
            let mut visitor = visitor.at_node(shared.nodes[node % 2].address);
            together.wait();
            let answer = visitor.open(&path);
            let location = answer.header("location").map(str::to_owned);
            (answer.status, location, visitor.cookies.get(SESSION).cloned())
        };
        let come_back = &come_back;
        let answers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|node| scope.spawn(move || come_back(node))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert_eq!(shared.site.exchanges() - exchanges, 1, "round {round}");
        assert_eq!(answers[0].1.as_deref(), Some("/page"), "round {round}: {answers:?}");
        assert!(answers[0].2.is_some(), "round {round}: {answers:?}");
        assert!(answers.iter().all(|answer| answer == &answers[0]), "round {round}: {answers:?}");
    }
}

#[test]
fn browser_that_signed_out_at_one_node_is_signed_out_at_the_other_within_a_second() {
    let shared = Nodes::start();
    let mut visitor = shared.visitor(0);
    visitor.sign_in(&shared.site.world.emulator, "site", "alice");
    let mut elsewhere = visitor.at_node(shared.nodes[1].address);
    assert_eq!(elsewhere.open("/page").status, 200);

    assert_eq!(visitor.send("POST", "/auth/logout", "Content-Type: application/json\r\n", "{}").status, 204);
    let began = now();
    eventually("the other node refuses", || elsewhere.send_only("GET", "/page", "", "").status == 401);

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
