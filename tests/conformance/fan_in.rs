//! One flow of several: of branches of one source, and with a second source that lives on.

use forebay::outcome::Kind;
use forebay::source;
use forebay::testkit::conformance;

use super::{OTHER, other, same, twice, with_other};

conformance! {
    merge: |flow| flow.merge([other()]), with_other,
        |suite| suite.sources().unordered().errors_overtake();
    merge_of_many: |flow| flow.merge([source::iter([]), other().buffer(3), source::iter([])]),
        with_other, |suite| suite.sources().unordered().errors_overtake();
    merge_with_nothing: |flow| flow.merge([source::iter([])]), same;
    merge_prioritized: |flow| flow.merge_prioritized(3, [(1, other())]), with_other,
        |suite| suite.sources().unordered().errors_overtake();
    merge_prioritized_branches:
        |flow| {
            let [left, right] = flow.broadcast(4);
            left.merge_prioritized(1, [(2, right)])
        },
        twice, |suite| suite.unordered().errors_overtake();
    concat: |flow| flow.concat([other()]), with_other,
        |suite| suite.sources().errors_overtake();
    concat_behind_another: |flow| other().concat([flow, source::iter([])]),
        |input| OTHER.chain(input).collect(),
        |suite| suite.sources().errors_overtake();
    zip: |flow| flow.zip(other()), |input| input.into_iter().zip(OTHER).collect(),
        |suite| suite.sources().errors_overtake().may(Kind::Cancelled);
    zip_branches:
        |flow| {
            let [left, right] = flow.broadcast(4);
            left.zip(right.map(|n| n + 1))
        },
        |input| input.into_iter().map(|n| (n, n + 1)).collect(),
        |suite| suite.errors_overtake();
}
