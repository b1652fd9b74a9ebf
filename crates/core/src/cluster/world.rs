//! Services, endpoints and times for the tests of this module.

#![expect(clippy::expect_used, reason = "helpers of tests fail like tests")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::config::{
    Balancing, BreakerScope, CircuitBreaker, Conditions, Endpoint, HealthCheck, OutlierDetection, Pool, Probe, Service,
    ServiceTimeouts, Statuses, Trip, UpstreamProtocol, UpstreamTls,
};
