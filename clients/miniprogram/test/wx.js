'use strict'

// The parts of `wx` that the client uses, over Node's own HTTP. The phone behind `wx.login` is the emulator's.

const http = require('node:http')

/** A launch of the mini program: what is in `storage` outlives it. */
function createWx({ emulator, appid, wxid, storage = new Map() }) {
  const counts = { login: 0 }
  const sent = []

  function call(options, { data, decode = parse, method = options.method || 'GET', headers = options.header || {} }) {
    let isOver = false
    const finish = (name, result) => {
      if (isOver) return
      isOver = true
      if (options[name]) options[name](result)
      if (options.complete) options.complete(result)
    }
    const url = new URL(options.url)
    sent.push({ method, path: url.pathname, headers })
    const request = http.request(url, { method, headers, agent: false }, response => {
      const chunks = []
      response.on('data', chunk => chunks.push(chunk))
      response.on('end', () => finish('success', {
        statusCode: response.statusCode,
        header: response.headers,
        errMsg: 'request:ok',
        ...decode(Buffer.concat(chunks)),
      }))
      response.on('error', () => finish('fail', { errMsg: 'request:fail interrupted' }))
    })
    request.on('error', error => finish('fail', { errMsg: 'request:fail ' + error.code }))
    request.end(data)
    return {
      abort() { request.destroy(); finish('fail', { errMsg: 'request:fail abort' }) },
      onProgressUpdate(listener) { listener({ progress: 100 }) },
      onHeadersReceived() {},
    }
  }

  const wx = {
    login({ success, fail }) {
      counts.login += 1
      post(emulator + '/__emu/wx.login', { appid, wxid }).then(({ code }) => success({ code, errMsg: 'login:ok' }))
        .catch(error => fail({ errMsg: 'login:fail ' + error.message }))
    },
    request(options) {
      const hasBody = options.data !== undefined
      const data = hasBody ? JSON.stringify(options.data) : undefined
      const headers = { ...(hasBody ? { 'Content-Type': 'application/json' } : {}), ...options.header }
      return call(options, { data, headers })
    },
    uploadFile(options) {
      const decode = body => ({ data: body.toString() })
      return call(options, { data: 'a file at ' + options.filePath, decode, method: 'POST' })
    },
    downloadFile(options) {
      // Neither the header nor the body of the answer is shown.
      const success = ({ statusCode }) => options.success({ statusCode, tempFilePath: '/tmp/1' })
      return call({ ...options, success }, { method: 'GET' })
    },
    connectSocket(options) {
      sent.push({ method: 'CONNECT', path: options.url, headers: options.header })
      const listeners = {}
      return {
        onOpen(listener) { listeners.open = listener },
        onError(listener) { listeners.error = listener },
        close() {},
        listeners,
      }
    },
    getStorageSync: key => (storage.has(key) ? JSON.parse(storage.get(key)) : ''),
    setStorageSync: (key, value) => { storage.set(key, JSON.stringify(value)) },
  }
  return { wx, counts, sent, storage }
}

function parse(body) {
  const text = body.toString()
  try { return { data: JSON.parse(text) } } catch (_) { return { data: text } }
}

function post(url, data) {
  return fetch(url, { method: 'POST', body: JSON.stringify(data) }).then(response => response.json())
}

/** Answers in the gateway's place, or hands on to it: `answer(request, forward)`. */
async function createProxy(gateway, answer) {
  const target = new URL(gateway)
  const server = http.createServer((request, response) => {
    const chunks = []
    request.on('data', chunk => chunks.push(chunk))
    request.on('end', () => {
      const forward = (drop = false) => {
        const options = { host: target.hostname, port: target.port, method: request.method, path: request.url }
        const onward = http.request({ ...options, headers: request.headers, agent: false }, answered => {
          if (drop) { answered.resume(); answered.on('end', () => request.socket.destroy()); return }
          response.writeHead(answered.statusCode, answered.headers)
          answered.pipe(response)
        })
        onward.end(Buffer.concat(chunks))
      }
      answer({ request, response, forward })
    })
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  return { url: 'http://127.0.0.1:' + server.address().port, close: () => new Promise(done => { server.closeAllConnections(); server.close(done) }) }
}

module.exports = { createWx, createProxy, post }
