'use strict'

/**
 * What a request rejects with.
 *
 * `code` is a word of the gateway (docs/http-api.md), or one of this client:
 * `network` (no answer came), `unexpected_answer` (an answer that is not the gateway's),
 * `login_failed` (`wx.login` failed), `signed_out` (after `signOut()`), `aborted`.
 * `status` is the HTTP status, if there was an answer. `requestId` is in the gateway's log.
 * `retryAfter` is in seconds. `errMsg` is the text of the platform.
 */
class MenshenError extends Error {
  constructor(code, message, details) {
    super(message || code)
    this.name = 'MenshenError'
    this.code = code
    Object.assign(this, details)
  }
}

module.exports = { MenshenError }
