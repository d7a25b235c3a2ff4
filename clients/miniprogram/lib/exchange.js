'use strict'

const { MenshenError } = require('./errors')
const { refusal } = require('./answer')
const { sleep, WAITS } = require('./session')

/** Methods of a task that take a listener. They may be called before the task exists. */
const LISTENERS = [
  'onProgressUpdate', 'offProgressUpdate', 'onHeadersReceived', 'offHeadersReceived', 'onChunkReceived', 'offChunkReceived',
]

/**
 * One request of `wx.request`, `wx.uploadFile` or `wx.downloadFile`, with a token: renewed and sent again once if the
 * gateway refuses the token, sent again after `Retry-After` if the gateway asks to wait. The gateway forwards neither.
 */
class Exchange {
  constructor(client, method, options) {
    this.client = client
    this.method = method
    this.options = options
    this.listeners = []
    this.task = undefined
    this.isAborted = false
  }

  start() {
    const promise = this.attempt(1, WAITS)
    const settled = new Promise((resolve, reject) => {
      this.reject = reject
      promise.then(resolve, reject)
    })
    callBack(settled, this.options)
    settled.abort = () => this.abort()
    LISTENERS.forEach(name => {
      settled[name] = listener => this.listen(name, listener)
    })
    return settled
  }

  abort() {
    if (this.isAborted) return
    this.isAborted = true
    if (this.task !== undefined && this.task.abort) this.task.abort()
    this.reject(new MenshenError('aborted', this.method + ':fail abort', { errMsg: this.method + ':fail abort' }))
  }

  listen(name, listener) {
    this.listeners.push([name, listener])
    if (this.task !== undefined && this.task[name]) this.task[name](listener)
  }

  attempt(renewals, waits) {
    return this.client.pairFor(this.options).then(pair => this.send(pair).then(response => {
      const error = refusal(response)
      if (error === undefined) return response
      if (error.status === 401 && pair !== undefined && renewals > 0) {
        return this.client.session.pairAfter(pair).then(() => this.attempt(renewals - 1, waits))
      }
      if (error.code === 'unionid_unknown' && pair !== undefined && renewals > 0 && !pair.askedForUnionid) {
        return this.client.session.askForUnionid(pair).then(() => this.attempt(renewals - 1, waits))
      }
      const asksToWait = (error.status === 429 || error.status === 503) && error.retryAfter <= this.client.maxWait
      if (asksToWait && waits > 0 && !this.isAborted) {
        return sleep(error.retryAfter).then(() => this.attempt(renewals, waits - 1))
      }
      throw error
    }))
  }

  send(pair) {
    return new Promise((resolve, reject) => {
      if (this.isAborted) return
      const { method, client, options } = this
      const fail = ({ errMsg } = {}) => reject(new MenshenError('network', errMsg, { errMsg }))
      this.task = client.platform[method](client.options(options, pair, { success: resolve, fail }))
      if (this.task) this.listeners.forEach(([name, listener]) => this.task[name] && this.task[name](listener))
    })
  }
}

/** Calls `success`, `fail` and `complete` as the platform does. */
function callBack(promise, { success, fail, complete }) {
  if (!success && !fail && !complete) return
  promise.then(
    result => { if (success) success(result); if (complete) complete(result) },
    error => {
      if (error.errMsg === undefined) error.errMsg = error.message
      if (fail) fail(error)
      if (complete) complete(error)
    },
  )
}

module.exports = { Exchange, callBack }
