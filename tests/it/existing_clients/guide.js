'use strict'

// The client of the login guide, written from its description: the first login brings the user name and the password
// of the business with the code, later ones only the code. The answer has a `sessionId`, which later requests bring.

function createGuideClient(wx, base) {
  let sessionId = ''

  function login(account = {}) {
    return new Promise((resolve, reject) => {
      wx.login({
        success({ code }) {
          wx.request({
            url: base + '/login',
            data: { code, ...account },
            success({ statusCode, data }) {
              if (statusCode !== 200 || !data.ok) return reject(new Error('login: ' + (data.why || statusCode)))
              sessionId = data.sessionId
              resolve(data)
            },
            fail: reject,
          })
        },
        fail: reject,
      })
    })
  }

  function request(path, { inQuery = false } = {}) {
    return new Promise((resolve, reject) => {
      const place = inQuery ? { data: { page: 2, sessionId } } : { header: { sessionId } }
      wx.request({ url: base + path, ...place, success: resolve, fail: reject })
    })
  }

  return { login, request, forget() { sessionId = 'x.y.z' } }
}

module.exports = { createGuideClient }
