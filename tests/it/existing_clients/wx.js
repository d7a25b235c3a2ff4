'use strict'

// The parts of `wx` that old clients use, over Node's own HTTP, as the documents describe them. The phone behind
// `wx.login` is the emulator's.

const http = require('node:http')

function createWx({ emulator, appid, wxid }) {
  const storage = new Map()
  const sent = []
  const counts = { login: 0 }
  const wx = {
    login({ success, fail }) {
      counts.login += 1
      send(emulator + '/__emu/wx.login', 'POST', { 'content-type': 'application/json' }, JSON.stringify({ appid, wxid }))
        .then(({ data }) => success({ code: data.code, errMsg: 'login:ok' }), error => fail && fail(error))
    },
    // The default method is GET, the default content type is JSON. The data of a GET goes into the query. Every
    // status of HTTP is a success.
    request({ url, data, header = {}, method = 'GET', success, fail, complete }) {
      const target = new URL(url)
      const headers = { 'content-type': 'application/json', 'user-agent': 'MicroMessenger/8.0', ...header }
      let body
      if (method === 'GET') {
        for (const [name, value] of Object.entries(data || {})) {
          target.search += (target.search ? '&' : '?') + encodeURIComponent(name) + '=' + encodeURIComponent(value)
        }
      } else if (data !== undefined) {
        const isForm = headers['content-type'].startsWith('application/x-www-form-urlencoded')
        body = isForm ? new URLSearchParams(data).toString() : JSON.stringify(data)
      }
      sent.push({ method, path: target.pathname, query: target.search, headers })
      send(target, method, headers, body).then(result => {
        if (success) success(result)
        if (complete) complete(result)
      }, error => {
        if (fail) fail({ errMsg: 'request:fail ' + error.message })
        if (complete) complete(error)
      })
    },
    getStorageSync: key => storage.get(key) || '',
    setStorageSync: (key, value) => { storage.set(key, value) },
    removeStorageSync: key => { storage.delete(key) },
  }
  return { wx, storage, sent, counts }
}

function send(url, method, headers, body) {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
    const request = http.request(url, { method, headers: { ...headers, ...length }, agent: false }, response => {
      const chunks = []
      response.on('data', chunk => chunks.push(chunk))
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        let data = text
        try { data = JSON.parse(text) } catch { /* wx.request gives text that is no JSON as it is */ }
        resolve({ statusCode: response.statusCode, header: response.headers, data })
      })
      response.on('error', reject)
    })
    request.on('error', reject)
    request.end(body)
  })
}

module.exports = { createWx }
