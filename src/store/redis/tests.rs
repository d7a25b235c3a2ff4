//! The section as it is checked, and errors as they are told.
