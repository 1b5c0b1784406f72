//! What every call to AWS shares: client settings, outcomes and their counts.
