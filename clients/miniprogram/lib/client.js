'use strict'

const { MenshenError } = require('./errors')
const { Exchange, callBack } = require('./exchange')
const { Session } = require('./session')

/** The requests of a mini program to one gateway. */
class Client {
  constructor(options) {
    const { baseUrl, app } = options
    if (!/^https?:\/\/[^/?#]+(\/[^?#]*)?$/.test(baseUrl || '')) {
      throw new TypeError('baseUrl: write the address of the gateway, such as https://shop.example.com')
    }
    this.platform = options.platform || (typeof wx === 'undefined' ? undefined : wx) // eslint-disable-line no-undef
    if (this.platform === undefined) {
      throw new TypeError('platform: there is no `wx` here; give `uni` or `Taro`')
    }
    this.baseUrl = baseUrl.replace(/\/+$/, '')
    this.maxWait = options.maxWait === undefined ? 10 : options.maxWait
    this.session = new Session({
      platform: this.platform,
      baseUrl: this.baseUrl,
      authPath: options.authPath || '/auth',
      app,
      device: options.device,
      maxWait: this.maxWait,
      storageKey: options.storageKey || 'menshen ' + this.baseUrl + ' ' + (app || ''),
    })
  }

  request(options) {
    return new Exchange(this, 'request', options).start()
  }

  uploadFile(options) {
    return new Exchange(this, 'uploadFile', options).start()
  }

  downloadFile(options) {
    return new Exchange(this, 'downloadFile', options).start()
  }

  /** Opens a WebSocket; a promise of the platform's `SocketTask`, whose events are the caller's. */
  connectSocket(options) {
    let task
    let isAborted = false
    const abort = () => {
      isAborted = true
      if (task !== undefined && task.close) task.close({})
    }
    const promise = this.pairFor(options).then(pair => new Promise((resolve, reject) => {
      if (isAborted) throw aborted('connectSocket')
      const fail = ({ errMsg } = {}) => reject(new MenshenError('network', errMsg, { errMsg }))
      const prepared = this.options(options, pair, { success: () => undefined, fail })
      prepared.url = prepared.url.replace(/^http/, 'ws')
      task = this.platform.connectSocket(prepared)
      // Taro returns a promise of the task.
      Promise.resolve(task).then(opened => {
        task = opened
        this.watchOpening(opened, pair)
        if (isAborted) { abort(); throw aborted('connectSocket') }
        return opened
      }).then(resolve, reject)
    }))
    promise.abort = abort
    callBack(promise, options)
    return promise
  }

  /** A socket that fails before it opens may have been refused: the token is renewed before its next use. */
  watchOpening(task, pair) {
    if (pair === undefined || !task || !task.onOpen || !task.onError) return
    let isOpen = false
    task.onOpen(() => { isOpen = true })
    task.onError(() => { if (!isOpen) this.session.distrust(pair) })
  }

  /** Signs in now, also after `signOut()`. Requests sign in by themselves, so most programs need it only after that. */
  signIn() {
    return this.session.signIn().then(() => undefined)
  }

  /** Ends the session; `{ everywhere: true }` ends every session of the person. */
  signOut(options) {
    return this.session.signOut(Boolean(options && options.everywhere))
  }

  /** A request in the form of `wx.cloud.callContainer`: `path` instead of `url`. `config` and `env` are ignored. */
  callContainer(options) {
    const { path, config, env, ...rest } = options // eslint-disable-line no-unused-vars
    return this.request({ ...rest, url: path })
  }

  /** What replaces `wx.cloud` in code that was written for WeChat Cloud Run. */
  cloud() {
    return { init: () => undefined, callContainer: options => this.callContainer(options) }
  }

  /**
   * The pair for a request: `auth: true` (the default) signs in if there is none, `'optional'` sends a token if there
   * is one, `false` sends none.
   */
  pairFor({ auth = true }) {
    if (auth === false) return Promise.resolve(undefined)
    if (auth === 'optional' && this.session.pending === undefined && this.session.storedPair() === undefined) {
      return Promise.resolve(undefined)
    }
    return this.session.pair()
  }

  /** The options of the platform: the whole URL, the token, and our callbacks instead of the caller's. */
  options(given, pair, callbacks) {
    const { auth, complete, ...rest } = given // eslint-disable-line no-unused-vars
    const header = { ...given.header }
    if (pair !== undefined) {
      // A header that the caller set in another case would stand beside ours.
      Object.keys(header).forEach(key => { if (key.toLowerCase() === 'authorization') delete header[key] })
      header.Authorization = 'Bearer ' + pair.access_token
    }
    return { ...rest, ...callbacks, url: this.url(given.url), header }
  }

  /** Only paths of the gateway: a token must not be sent elsewhere. */
  url(path) {
    let url = path === undefined ? '/' : String(path)
    if (url.startsWith(this.baseUrl + '/')) url = url.slice(this.baseUrl.length)
    if (url.startsWith('//') || /^[a-z][a-z0-9+.-]*:/i.test(url)) {
      throw new MenshenError('url_not_relative', 'url: write a path of the gateway, such as /orders/7')
    }
    return this.baseUrl + (url.startsWith('/') ? '' : '/') + url
  }
}

function aborted(method) {
  return new MenshenError('aborted', method + ':fail abort', { errMsg: method + ':fail abort' })
}

module.exports = { Client }
