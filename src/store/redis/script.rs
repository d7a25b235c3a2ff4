//! Scripts for the steps that take more than one command. Redis runs a script atomically.

use redis::Script;

/// Writes the row if its value is the expected one.
const COMPARE_AND_SET: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// Removes the row if its value is the expected one.
const COMPARE_AND_DELETE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1";

/// Appends to the log. Each entry begins with the stamp of the entry before it and its own stamp,
/// 16 digits each. A reader uses them to check that it continues with the same log. The entry is
/// written first, because Redis can refuse that write if memory is full.
const APPEND: &str = "
local head = redis.call('HMGET', KEYS[1], 'n', 's')
local number = (tonumber(head[1]) or 0) + 1
local time = redis.call('TIME')
local stamp = string.format('%016.0f', time[1] * 1000000 + time[2])
local name = string.format('%.0f', number)
redis.call('SET', KEYS[1] .. ':' .. name, (head[2] or '0000000000000000') .. stamp .. ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[1], 'n', name, 's', stamp)
redis.call('PUBLISH', ARGV[3], name)
return number";

/// Reads the log after a number, if no entry is missing and the first one continues from the stamp.
/// Returns the last number, its stamp, whether the log is whole, and the entries.
const LOG_AFTER: &str = "
local head = redis.call('HMGET', KEYS[1], 'n', 's')
local last = tonumber(head[1]) or 0
local stamp = head[2] or ''
local after = tonumber(ARGV[1])
local gap = { last, stamp, 0 }
if after > last or last - after > tonumber(ARGV[2]) then return gap end
if after == last then
  if ARGV[3] ~= '' and ARGV[3] ~= stamp then return gap end
  return { last, stamp, 1 }
end
local names = {}
for number = after + 1, last do
  names[#names + 1] = KEYS[1] .. ':' .. string.format('%.0f', number)
end
local entries = redis.call('MGET', unpack(names))
local before = ARGV[3]
for index = 1, #names do
  local entry = entries[index]
  if not entry then return gap end
  if before ~= '' and string.sub(entry, 1, 16) ~= before then return gap end
  before = string.sub(entry, 17, 32)
end
return { last, stamp, 1, entries }";

/// The generic cell rate algorithm, by the server's clock, in microseconds. The answer is the time
/// to wait, 0 for none. The row is the time at which the bucket is full again. It is never more
/// than a whole burst away, even if the clock went backwards.
const ACQUIRE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local every, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') or 0, now)
full_at = math.min(full_at, now + every * burst)
local wait = full_at - every * (burst - 1) - now
if wait > 0 then return wait end
full_at = full_at + every
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0";

/// A script with its SHA-1, which names it on a server that has the script.
pub(super) struct Known {
    code: &'static str,
    hash: String,
}

/// Every script.
pub(super) struct Scripts {
    pub(super) compare_and_set: Known,
    pub(super) compare_and_delete: Known,
    pub(super) append: Known,
    pub(super) log_after: Known,
    pub(super) acquire: Known,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            compare_and_set: Known::new(COMPARE_AND_SET),
            compare_and_delete: Known::new(COMPARE_AND_DELETE),
            append: Known::new(APPEND),
            log_after: Known::new(LOG_AFTER),
            acquire: Known::new(ACQUIRE),
        }
    }
}

impl Known {
    fn new(code: &'static str) -> Self {
        Self { hash: Script::new(code).get_hash().to_owned(), code }
    }

    /// Returns the call for a server that has the script, and the call that sends its code.
    pub(super) fn call(&self, key: &str, arguments: &[&[u8]]) -> (redis::Cmd, redis::Cmd) {
        let call = |command: &str, script: &str| {
            let mut call = redis::cmd(command);
            call.arg(script).arg(1).arg(key).arg(arguments);
            call
        };
        (call("EVALSHA", &self.hash), call("EVAL", self.code))
    }
}
