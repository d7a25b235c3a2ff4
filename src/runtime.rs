//! All that a reload may swap, built from one configuration.
