//! The Redis engine, on real servers.

use crate::common::redis::{Cluster, RedisServer, Sentinels};

#[test]
fn servers_of_tests_start_stop_and_come_back() {
    let mut server = RedisServer::start();
    assert_eq!(server.command(&["set", "a", "1"]), "OK");
    server.restart();
    assert_eq!(server.command(&["get", "a"]), "");
    server.kill();
    assert_eq!(server.command(&["ping"]), "");
}

#[test]
fn cluster_and_sentinels_of_tests_work() {
    let begun = crate::common::now();
    let cluster = Cluster::start();
    println!("cluster {:?}", begun.elapsed());
    assert_eq!(cluster.addresses().len(), 3);
    let begun = crate::common::now();
    let sentinels = Sentinels::start(1);
    println!("sentinels {:?}", begun.elapsed());
    assert_eq!(sentinels.master(), 0);
    assert_eq!(sentinels.fail_over(), 1);
    println!("failed over {:?}", begun.elapsed());
}
