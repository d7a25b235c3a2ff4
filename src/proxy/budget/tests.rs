use std::net::Ipv4Addr;

use super::*;

struct Bench {
    budget: Arc<RequestBudget>,
    connections: Arc<Connections>,
}

impl Bench {
    fn new(most: usize, of_address: usize, files: RequestFiles) -> Self {
        let limits = config::Limits {
            max_requests: most,
            max_requests_per_address: of_address,
            max_request_wait: config::Duration::from_secs(5),
            ..config::Limits::default()
        };
        let metrics = Metrics::new().unwrap();
        let connections = Arc::new(Connections::new(&limits, 1000, &metrics));
        let budget = Arc::new(RequestBudget::new(&limits, files, Arc::clone(&connections), &metrics));
        Self { budget, connections }
    }

    fn with(most: usize, of_address: usize) -> Self {
        Self::new(most, of_address, RequestFiles { shared: usize::MAX, reserved: 0 })
    }

    fn try_enter(&self, client: &str) -> Result<CountedRequest, NoRoom> {
        let of_address = self.budget.count_of(client_network(client.parse().unwrap()));
        self.budget.try_enter(&of_address, self.budget.most_of_address)
    }

    /// How many requests of a client find room.
    fn fill(&self, client: &str, held: &mut Vec<CountedRequest>) -> usize {
        let before = held.len();
        held.extend(std::iter::from_fn(|| self.try_enter(client).ok()));
        held.len() - before
    }
}

#[expect(clippy::disallowed_methods, reason = "the waits are tokio's, and so is their clock")]
fn paused_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

fn client(address: &str) -> ClientAddress {
    let address = address.parse().unwrap();
    ClientAddress { peer: address, proxy: None, client: address }
}

#[test]
fn an_address_has_its_most_and_a_64_of_ipv6_is_one() {
    let bench = Bench::with(1000, 3);
    let mut held = Vec::new();

    assert_eq!(bench.fill("192.0.2.1", &mut held), 3);
    assert_eq!(bench.fill("2001:db8::1", &mut held), 3);
    assert_eq!(bench.fill("2001:db8::2", &mut held), 0);
    assert_eq!(bench.try_enter("192.0.2.1").err(), Some(NoRoom::OfAddress));
    held.clear();
    assert_eq!(bench.fill("192.0.2.1", &mut held), 3);
}

#[test]
fn greedy_addresses_share_alike_and_leave_room_for_an_address_with_few_requests() {
    let bench = Bench::with(120, 1000);
    let mut held = Vec::new();

    assert_eq!(bench.fill("192.0.2.1", &mut held), 60);
    assert_eq!(bench.fill("192.0.2.2", &mut held), 30);
    for number in 3..20 {
        assert!(bench.try_enter(&format!("192.0.2.{number}")).is_ok(), "{number}");
    }
    // In the end greedy ones have as much each as is left.
    for _ in 0..20 {
        held.rotate_left(1);
        held.truncate(held.len() - 1);
        bench.fill("192.0.2.1", &mut held);
        bench.fill("192.0.2.2", &mut held);
    }
    assert!(bench.try_enter("192.0.2.9").is_ok());
}

#[test]
fn a_full_budget_refuses_everybody_and_one_that_ends_makes_room() {
    let bench = Bench::with(3, 1000);
    let addresses = [1, 2, 3].map(|number| IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)).to_string());
    let mut held: Vec<_> = addresses.iter().map(|address| bench.try_enter(address).ok().unwrap()).collect();

    assert_eq!(bench.try_enter("192.0.2.4").err(), Some(NoRoom::InAll));
    held.pop();
    assert!(bench.try_enter("192.0.2.4").is_ok());
}

#[test]
fn files_that_connections_take_are_not_there_for_requests_but_some_are_kept() {
    let bench = Bench::new(1000, 1000, RequestFiles { shared: 10, reserved: 4 });
    assert_eq!(bench.budget.most_now(), 10);

    let _open: Vec<_> = (0..9).map(|_| bench.connections.open_connection().unwrap()).collect();

    assert_eq!(bench.budget.most_now(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_the_budget_waits_for_room_and_is_refused_in_time() {
    let bench = Bench::with(100, 1);
    let first = bench.budget.enter(&client("192.0.2.1")).await.ok().unwrap();
    let started = paused_now();

    let refused = bench.budget.enter(&client("192.0.2.1")).await.err();

    assert_eq!(refused, Some(NoRoom::OfAddress));
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    let budget = Arc::clone(&bench.budget);
    let waits = tokio::spawn(async move { budget.enter(&client("192.0.2.1")).await.is_ok() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(first);
    assert!(waits.await.unwrap());
    assert!(started.elapsed() < Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_address_are_forwarded_in_the_order_in_which_they_came() {
    let bench = Bench::with(1000, 3);
    let entered = |name: &'static str, order: &Arc<Mutex<Vec<&'static str>>>| {
        let (budget, order) = (Arc::clone(&bench.budget), Arc::clone(order));
        async move {
            let entered = budget.enter(&client("192.0.2.1")).await.ok().unwrap();
            order.lock().push(name);
            // Long enough that the next one is still waiting, and forwarded one after another.
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(entered.counted);
            entered.has_waited
        }
    };
    let order = Arc::default();
    let mut waiting = Vec::new();
    for name in ["first", "second", "third", "fourth", "fifth", "sixth"] {
        waiting.push(tokio::spawn(entered(name, &order)));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Each place that becomes free has a request that waits for it. One that comes then is last.
    tokio::time::sleep(Duration::from_millis(95)).await;
    waiting.push(tokio::spawn(entered("late", &order)));

    let started = paused_now();
    let mut waited = Vec::new();
    for one in waiting {
        waited.push(one.await.unwrap());
    }

    assert_eq!(*order.lock(), ["first", "second", "third", "fourth", "fifth", "sixth", "late"]);
    assert_eq!(waited, [false, false, false, true, true, true, true]);
    assert!(started.elapsed() < Duration::from_millis(350), "none waited in vain: {:?}", started.elapsed());
    assert_eq!(bench.budget.under_way.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gives_up_lets_the_next_one_have_its_turn() {
    let bench = Bench::with(1000, 2);
    let held = [(); 2].map(|()| bench.try_enter("192.0.2.1").ok().unwrap());
    let enter = || {
        let budget = Arc::clone(&bench.budget);
        tokio::spawn(async move { budget.enter(&client("192.0.2.1")).await.is_ok() })
    };
    let gives_up = enter();
    tokio::task::yield_now().await;
    let stays = enter();
    tokio::task::yield_now().await;

    gives_up.abort();
    drop(held);

    assert!(stays.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may_be_under_way() {
    let bench = Bench::with(100, 2);
    let entered =
        Vec::from_iter(bench.try_enter("192.0.2.1").into_iter().chain(bench.try_enter("192.0.2.1")));
    let enter = || {
        let budget = Arc::clone(&bench.budget);
        tokio::spawn(async move { budget.enter(&client("192.0.2.1")).await.is_ok() })
    };
    let waiting = [enter(), enter()];
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = paused_now();

    assert!(!enter().await.unwrap());

    assert_eq!(started.elapsed(), Duration::ZERO);
    drop(entered);
    for one in waiting {
        assert!(one.await.unwrap());
    }
}

#[tokio::test]
async fn a_trusted_proxy_that_names_no_client_is_bounded_by_the_whole_alone() {
    let bench = Bench::with(10, 1);
    let proxy = ClientAddress { proxy: Some(0), ..client("10.0.0.1") };
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(bench.budget.enter(&proxy).await.ok().unwrap().counted);
    }

    assert_eq!(bench.budget.under_way.load(Ordering::Relaxed), 5);
}

#[test]
fn addresses_with_nothing_under_way_are_forgotten() {
    let bench = Bench::with(1000, 10);
    for number in 0..10_000_u32 {
        drop(bench.try_enter(&IpAddr::V4(number.into()).to_string()));
    }

    let known: usize = bench.budget.shards.iter().map(|shard| shard.lock().addresses.len()).sum();
    assert!(known <= SHARDS * LEAST_SWEEP, "{known}");
    assert_eq!(bench.budget.under_way_gauge.get(), 0);
}
