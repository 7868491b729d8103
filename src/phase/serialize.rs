//! Phases and readiness for serde: strings.

use serde::ser::{Serialize, Serializer};

use super::{Phase, Readiness};

/// `"running"`, `"lingering"`, `"draining"`, `"cleaning"` or `"ended"`.
impl Serialize for Phase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `"ready"`, `"lingering"`, `"draining"` or `"ended"`.
impl Serialize for Readiness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
