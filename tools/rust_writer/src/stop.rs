//! How the writer is asked to stop: by SIGTERM or Ctrl-C. Windows has no signal from one process to another;
//! there it is the event that CDC_STOP_EVENT names, too (docs/windows.md).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

/// Becomes true once somebody asks.
pub fn asked() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| error.to_string())?;
    }
    #[cfg(windows)]
    if let Some(name) = std::env::var_os("CDC_STOP_EVENT") {
        event::wait_for(&name, Arc::clone(&stop))?;
    }
    Ok(stop)
}

#[cfg(windows)]
mod event {
    use std::ffi::{OsStr, c_void};
    use std::io;
    use std::os::windows::ffi::OsStrExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    const FOR_EVER: u32 = u32::MAX;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn CreateEventW(security: *const c_void, manual: i32, set: i32, name: *const u16) -> *mut c_void;
        fn WaitForSingleObject(object: *mut c_void, milliseconds: u32) -> u32;
    }

    /// Makes the event, which tells the supervisor that it can be set, and has a thread wait for it.
    pub fn wait_for(name: &OsStr, stop: Arc<AtomicBool>) -> Result<(), String> {
        let wide: Vec<u16> = name.encode_wide().chain([0]).collect();
        // SAFETY: the name ends with a zero and outlives the call; no security attributes are given.
        let event = unsafe { CreateEventW(std::ptr::null(), 1, 0, wide.as_ptr()) };
        if event.is_null() {
            return Err(format!("cannot make the event of CDC_STOP_EVENT: {}", io::Error::last_os_error()));
        }
        let event = event as usize; // a handle may be used by any thread; a pointer may not be sent to one
        thread::spawn(move || {
            // SAFETY: the handle is open as long as the process runs.
            unsafe { WaitForSingleObject(event as *mut c_void, FOR_EVER) };
            stop.store(true, Ordering::Relaxed);
        });
        Ok(())
    }
}
