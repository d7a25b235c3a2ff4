use super::*;

const LIMIT: FailedLoginLimit = FailedLoginLimit {
    allowed: 3,
    lockout: config::Duration::from_secs(10),
    max_lockout: config::Duration::from_secs(60),
    forget_after: config::Duration::from_secs(120),
};

/// Three errors allowed, then 10 s, 20 s … 60 s; forgotten after 120 s.
fn counting() -> Bench {
    bench(&config::Throttle { client_errors: Some(LIMIT), ..config(1000) })
}

fn record_response(bench: &Bench, client: &str, statuses: &[u16]) {
    statuses.iter().for_each(|status| bench.throttle.record_response(ip(client), *status));
}

fn locked_out(bench: &Bench, client: &str) -> Option<Duration> {
    bench.throttle.check_request(ip(client)).err().map(|throttled| {
        assert_eq!(throttled.limit, Limit::ClientError);
        throttled.retry_after
    })
}

#[test]
fn only_responses_that_are_the_clients_fault_count() {
    for (status, counts) in [
        (400, true),
        (401, true),
        (403, true),
        (404, true),
        (405, true),
        (422, true),
        (498, true),
        (408, false),
        (429, false),
        (499, false),
        (500, false),
        (503, false),
        (0, false),
        (101, false),
        (200, false),
        (303, false),
    ] {
        let bench = counting();

        record_response(&bench, "192.0.2.1", &[status; 4]);

        assert_eq!(locked_out(&bench, "192.0.2.1"), counts.then_some(seconds(10)), "{status}");
        assert_eq!(locked_out(&bench, "192.0.2.2"), None, "{status}");
        assert_eq!(bench.refused(Limit::ClientError), u64::from(counts));
    }
}

#[test]
fn good_response_removes_one_error_and_a_server_failure_none() {
    let bench = counting();

    record_response(&bench, "192.0.2.1", &[404, 404, 404, 200, 404]);
    assert_eq!(locked_out(&bench, "192.0.2.1"), None);
    record_response(&bench, "192.0.2.1", &[502, 429, 408, 0, 404]);

    assert_eq!(locked_out(&bench, "192.0.2.1"), Some(seconds(10)));
}

#[test]
fn errors_lock_out_of_requests_and_login_failures_do_not() {
    let bench = counting();

    record_response(&bench, "192.0.2.1", &[404; 4]);
    bench.forge(ip("192.0.2.2"), 4);

    assert_eq!(bench.log_in(ip("192.0.2.1"), "code"), Ok(()), "the proxy refuses it before");
    assert_eq!(locked_out(&bench, "192.0.2.2"), None);
    bench.clock.advance(seconds(10));
    assert_eq!(locked_out(&bench, "192.0.2.1"), None);
    record_response(&bench, "192.0.2.1", &[404]);
    assert_eq!(locked_out(&bench, "192.0.2.1"), Some(seconds(20)));
}

#[test]
fn errors_are_not_counted_without_configuration() {
    let bench = bench(&config(1000));

    record_response(&bench, "192.0.2.1", &[404; 1000]);

    assert_eq!(locked_out(&bench, "192.0.2.1"), None);
}

#[test]
fn problems_name_the_section_they_are_in() {
    let nothing_allowed = FailedLoginLimit { allowed: 0, ..LIMIT };
    let config = config::Throttle { client_errors: Some(nothing_allowed), ..config(1) };

    assert_eq!(
        findings(&config, &FixedEntropy),
        ["throttle.client_errors.allowed: the first failure would lock a client out; write a number from 1"]
    );
}
