//! The files that programs uploaded.

use std::collections::VecDeque;

use bytes::Bytes;

/// How many files are kept; older ones are forgotten. WeChat keeps one for three days.
const KEPT: usize = 16;

/// The files that programs uploaded, oldest first.
#[derive(Debug, Default)]
pub(super) struct MediaFiles(VecDeque<MediaFile>);

#[derive(Debug)]
struct MediaFile {
    id: String,
    appid: String,
    bytes: Bytes,
}

impl MediaFiles {
    /// Keeps a file of an app.
    pub(super) fn keep(&mut self, id: String, appid: String, bytes: Bytes) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(MediaFile { id, appid, bytes });
    }

    /// The content of the app's file with this id.
    pub(super) fn find(&self, id: &str, appid: &str) -> Option<Bytes> {
        let file = self.0.iter().find(|file| file.id == id && file.appid == appid)?;
        Some(file.bytes.clone())
    }
}
