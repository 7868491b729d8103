//! P4 for streams.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use libtest_mimic::Trial;
use tokio::sync::mpsc::{Receiver, channel};
use winddown::{StopSource, StreamExt as _, UntilStoppedStream};

use crate::harness::trials;
use crate::on_both;

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        p4_a_stream_that_waits_is_woken_by_the_stop,
        what_a_stream_has_given_is_passed_on_and_nothing_more_is_asked_for,
    ]
}

struct Numbers(Receiver<u32>);

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        self.0.poll_recv(cx)
    }
}

async fn next(stream: &mut UntilStoppedStream<Numbers>) -> Option<u32> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

fn p4_a_stream_that_waits_is_woken_by_the_stop() {
    on_both(|| async {
        for _ in 0..100 {
            let source = StopSource::new();
            let (sender, numbers) = channel(4);
            let mut numbers = Numbers(numbers).until_stopped(&source.token());
            let (heard, mut has_heard) = channel(4);
            let reader = tokio::spawn(async move {
                while let Some(number) = next(&mut numbers).await {
                    heard.send(number).await.unwrap();
                }
                numbers
            });
            sender.send(1).await.unwrap();
            assert_eq!(has_heard.recv().await, Some(1));
            // It waits for the second, or is about to.
            source.stop("enough");
            let mut numbers = reader.await.unwrap();
            assert_eq!(next(&mut numbers).await, None, "for ever");
            assert!(!sender.is_closed(), "ended by the stop, not by its end");
        }
    });
}

fn what_a_stream_has_given_is_passed_on_and_nothing_more_is_asked_for() {
    on_both(|| async {
        let source = StopSource::new();
        let (sender, numbers) = channel(4);
        for number in [1, 2, 3] {
            sender.send(number).await.unwrap();
        }
        let mut numbers = Numbers(numbers).until_stopped(&source.token());
        assert_eq!(next(&mut numbers).await, Some(1));
        source.stop("enough");
        assert_eq!(next(&mut numbers).await, None);
        assert_eq!(
            sender.capacity(),
            2,
            "two are still there for somebody else"
        );
        drop(sender);
    });
}
