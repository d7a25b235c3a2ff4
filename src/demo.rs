//! The main job in one process, to try and to paste from.
