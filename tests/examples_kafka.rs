//! The examples of Kafka do what they say, in a cluster of their own: each is run, and asserts for itself.
#![allow(missing_docs)]

#[path = "../examples/b7_groups_and_replay.rs"]
#[allow(dead_code)]
mod b7_groups_and_replay;

#[tokio::test(flavor = "multi_thread")]
async fn row_b7_groups_and_replay() {
    b7_groups_and_replay::embedded()
        .await
        .expect("b7_groups_and_replay");
}
