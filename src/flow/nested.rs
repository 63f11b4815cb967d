//! Flows that are built while a run goes on.

use super::Flow;
use crate::error::Stop;
use crate::operator::restarting::Live;
use crate::runtime::Home;
use crate::time;

/// Makes a flow part of a run: its islands start, and its end is what is called from now on.
pub(super) fn launch<T: Send + 'static>(
    home: &Home,
    flow: Flow<T>,
    contained: bool,
) -> Result<Live<T>, Stop> {
    let (input, stage, plan) = flow.into_parts();
    plan.settle_in(&stage, home.around());
    let taken = plan.take(time::is_simulated()).map_err(Stop::error)?;
    let part = home.launch(taken.stages, taken.sources, taken.islands, contained)?;
    Ok((input, part))
}
