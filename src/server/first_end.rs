//! Notices the first service that ends.

use tokio::sync::watch;
use tokio::task::JoinSet;

/// Reports when the first service has ended, by itself or by a panic. Services end only at a
/// shutdown; if one ends earlier it has failed, and the process must not go on without it.
pub(super) async fn report_first_end(mut services: JoinSet<()>, ended: watch::Sender<bool>) {
    services.join_next().await;
    _ = ended.send(true);
    while services.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_reported(services: JoinSet<()>) -> bool {
        let (sender, mut ended) = watch::channel(false);
        tokio::spawn(report_first_end(services, sender));
        let end = ended.wait_for(|ended| *ended);
        tokio::time::timeout(Duration::from_millis(500), end).await.is_ok_and(|end| end.is_ok())
    }

    #[tokio::test]
    async fn the_first_service_to_end_is_reported_however_it_ends() {
        for (name, ends, expected) in
            [("returns", Some(false), true), ("panics", Some(true), true), ("lives", None, false)]
        {
            let mut services = JoinSet::new();
            services.spawn(std::future::pending());
            services.spawn(async move {
                match ends {
                    Some(true) => panic!("a service panics, as the test wants it to"),
                    Some(false) => {}
                    None => std::future::pending().await,
                }
            });

            assert_eq!(is_reported(services).await, expected, "{name}");
        }
    }
}
