'use strict'

const { MenshenError } = require('./errors')
const { failure, json } = require('./answer')

/** How often a request whose answer was lost is sent again at once: the gateway then gives the same answer. */
const RESENDS = 2
/** How often the gateway's `Retry-After` is heeded before the error is passed on. */
const WAITS = 2
/** `wx.login` is called at most this often for one sign-in: WeChat warns apps that call it more. */
const LOGINS = 2
/** Longest part of its life at the end of which an access token is renewed before it is used. */
const RENEWED_BEFORE_MS = 60 * 1000

/** After these errors only a new code helps. */
const NEEDS_NEW_CODE = ['code_invalid', 'code_already_used', 'internal_error', 'wechat_unexpected', 'wechat_unreachable']

/**
 * Keeps the pair of tokens in the platform's storage, and gets a new one: one sign-in or refresh at a time, shared by
 * all requests that wait for it.
 */
class Session {
  constructor(options) {
    this.platform = options.platform
    this.baseUrl = options.baseUrl
    this.authPath = options.authPath
    this.app = options.app
    this.device = options.device
    this.maxWait = options.maxWait
    this.storageKey = options.storageKey
    /** What is under way: a promise of a pair. */
    this.pending = undefined
    /** The last refusal with `Retry-After`, until it is over. */
    this.refused = undefined
    /** Set after `user_blocked`: a further `wx.login` cannot help. */
    this.blocked = undefined
  }

  /** A promise of a pair that can be used; signs in if there is none. */
  pair() {
    if (this.pending !== undefined) return this.pending
    const stored = this.read()
    if (stored.signedOut) return Promise.reject(signedOut())
    if (stored.pair === undefined) return this.signIn()
    if (Date.now() >= stored.pair.renewAt) return this.renew(stored.pair)
    return Promise.resolve(stored.pair)
  }

  /** The stored pair, without a sign-in and without a refresh. */
  storedPair() {
    return this.read().pair
  }

  /** A promise of a pair after the gateway refused the token of `used`. */
  pairAfter(used) {
    if (this.pending !== undefined) return this.pending
    const stored = this.read()
    if (stored.signedOut) return Promise.reject(signedOut())
    // Another request has renewed it meanwhile.
    if (stored.pair !== undefined && stored.pair.access_token !== used.access_token) return this.pair()
    return stored.pair === undefined ? this.signIn() : this.renew(stored.pair)
  }

  /** Renews the pair before it is used next: the platform does not say why a WebSocket was refused. */
  distrust(used) {
    const { pair } = this.read()
    if (pair !== undefined && pair.access_token === used.access_token) {
      this.write({ pair: Object.assign({}, pair, { renewAt: 0 }) })
    }
  }

  /**
   * Signs in again, once for a session: an app that was bound to an open platform after the sign-in has a unionid now.
   */
  askForUnionid(used) {
    const stored = this.read()
    if (stored.pair !== undefined && stored.pair.access_token !== used.access_token) return this.pair()
    return this.once(() => this.loginWithCode(1).then(pair => {
      const asked = Object.assign({}, pair, { askedForUnionid: true })
      this.write({ pair: asked })
      return asked
    }))
  }

  /** Signs in with a code of `wx.login`, even after `signOut()`. */
  signIn() {
    return this.once(() => this.loginWithCode(LOGINS))
  }

  /** Ends the session. Signed out locally even if the gateway cannot be reached. */
  signOut(everywhere) {
    const begun = this.pending === undefined ? Promise.resolve() : this.pending.catch(() => undefined)
    return begun.then(() => {
      const { pair } = this.read()
      this.blocked = undefined
      this.write({ signedOut: true })
      if (pair === undefined) return undefined
      return everywhere ? this.endEverywhere(pair) : this.post('/logout', { refresh_token: pair.refresh_token })
    }).then(response => {
      // A session that has ended already is what was wanted.
      if (response !== undefined && response.statusCode >= 300 && response.statusCode !== 401) throw failure(response)
    })
  }

  /** Ends every session of the person, for which the access token is needed: one refresh if it has expired. */
  endEverywhere(pair) {
    const end = token => this.post('/logout', { everywhere: true }, { Authorization: 'Bearer ' + token })
    return end(pair.access_token).then(response => {
      if (response.statusCode !== 401) return response
      return this.post('/refresh', { refresh_token: pair.refresh_token })
        .then(renewed => (renewed.statusCode === 200 ? end(json(renewed.data).access_token) : renewed))
    })
  }

  renew(pair) {
    return this.once(() => this.patiently('/refresh', { refresh_token: pair.refresh_token })
      .then(response => this.keep(response, pair))
      // The refresh token is spent, or its session has ended.
      .catch(error => (error.status === 401 ? this.loginWithCode(LOGINS) : Promise.reject(error))))
  }

  loginWithCode(logins) {
    if (this.blocked !== undefined) return Promise.reject(this.blocked)
    const body = {}
    if (this.app !== undefined) body.app = this.app
    if (this.device !== undefined) body.device = this.device
    return this.code()
      .then(code => this.patiently('/login', Object.assign(body, { code })))
      .then(response => this.keep(response))
      .catch(error => {
        if (error.code === 'user_blocked') this.blocked = error
        const helps = NEEDS_NEW_CODE.indexOf(error.code) !== -1 && logins > 1
        if (!helps || !this.mayWait(error)) throw error
        return sleep(error.retryAfter || 0).then(() => this.loginWithCode(logins - 1))
      })
  }

  code() {
    return new Promise((resolve, reject) => this.platform.login({
      success: ({ code }) => (code ? resolve(code) : reject(new MenshenError('login_failed', 'wx.login gave no code'))),
      fail: ({ errMsg } = {}) => reject(new MenshenError('login_failed', errMsg, { errMsg })),
    }))
  }

  /** Sends a request again if its answer was lost or the gateway asks to wait: the same body gets the same answer. */
  patiently(path, body, resends = RESENDS, waits = WAITS) {
    if (this.refused !== undefined && Date.now() < this.refused.until) return Promise.reject(this.refused.error)
    this.refused = undefined
    return this.post(path, body).then(response => {
      if (response.statusCode === 200) return response
      const error = failure(response)
      const isSame = (error.status === 429 || error.status === 503) && error.code !== 'wechat_unreachable'
      if (!isSame) throw error
      if (waits > 0 && this.mayWait(error)) {
        return sleep(error.retryAfter).then(() => this.patiently(path, body, resends, waits - 1))
      }
      if (error.retryAfter !== undefined) {
        this.refused = { error, until: Date.now() + error.retryAfter * 1000 }
      }
      throw error
    }, error => {
      if (resends === 0) throw error
      return this.patiently(path, body, resends - 1, waits)
    })
  }

  mayWait(error) {
    return error.retryAfter === undefined ? error.status !== 429 && error.status !== 503 : error.retryAfter <= this.maxWait
  }

  post(path, data, headers) {
    return new Promise((resolve, reject) => this.platform.request({
      url: this.baseUrl + this.authPath + path,
      method: 'POST',
      header: Object.assign({ 'Content-Type': 'application/json' }, headers),
      data,
      dataType: 'json',
      success: resolve,
      fail: ({ errMsg } = {}) => reject(new MenshenError('network', errMsg, { errMsg })),
    }))
  }

  /** Stores the pair of an answer; `before` is the pair of the same session, if it was renewed. */
  keep(response, before) {
    const body = json(response.data)
    if (body === undefined || typeof body.access_token !== 'string' || typeof body.refresh_token !== 'string') {
      throw failure(response)
    }
    const lifetime = Number(body.expires_in) * 1000 || 0
    const pair = {
      askedForUnionid: Boolean(before && before.askedForUnionid),
      access_token: body.access_token,
      refresh_token: body.refresh_token,
      renewAt: Date.now() + lifetime - Math.min(RENEWED_BEFORE_MS, lifetime / 10),
    }
    this.write({ pair })
    return pair
  }

  once(work) {
    if (this.pending === undefined) {
      const forget = () => { if (this.pending === pending) this.pending = undefined }
      const pending = work()
      this.pending = pending
      pending.then(forget, forget)
    }
    return this.pending
  }

  read() {
    let stored
    try { stored = this.platform.getStorageSync(this.storageKey) } catch (_) { stored = undefined }
    if (stored === null || typeof stored !== 'object') stored = this.memory
    return stored || {}
  }

  write(state) {
    // Kept in memory too: the storage of a phone can be full.
    this.memory = state
    try { this.platform.setStorageSync(this.storageKey, state) } catch (_) { /* the next launch signs in */ }
  }
}

function signedOut() {
  return new MenshenError('signed_out', 'signed out: call signIn()')
}

function sleep(seconds) {
  return new Promise(resolve => setTimeout(resolve, seconds * 1000))
}

module.exports = { Session, sleep, WAITS }
