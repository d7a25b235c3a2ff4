'use strict'

const { MenshenError } = require('./errors')

/** Finds a header: platforms keep the case in which the server wrote the name. */
function header(response, name) {
  const headers = response.header || response.headers || {}
  const key = Object.keys(headers).find(key => key.toLowerCase() === name)
  const value = key === undefined ? undefined : headers[key]
  return Array.isArray(value) ? value[0] : value
}

/** `Retry-After` in seconds: a number or a date. See RFC 9110 section 10.2.3. */
function retryAfter(response) {
  const text = header(response, 'retry-after')
  if (text === undefined || text === '') return undefined
  if (/^\d+$/.test(String(text))) return Number(text)
  const at = Date.parse(text)
  return isNaN(at) ? undefined : Math.max(0, Math.ceil((at - Date.now()) / 1000))
}

/** The body as an object, whatever the platform made of it; `undefined` if it is no JSON object. */
function json(data) {
  let value = data
  if (value instanceof ArrayBuffer) {
    if (value.byteLength > 16384) return undefined
    const bytes = new Uint8Array(value)
    value = ''
    for (let i = 0; i < bytes.length; i++) value += String.fromCharCode(bytes[i])
  }
  if (typeof value === 'string') {
    if (value.length > 16384 || value.trim()[0] !== '{') return undefined
    try { value = JSON.parse(value) } catch (_) { return undefined }
  }
  return value !== null && typeof value === 'object' ? value : undefined
}

/**
 * Reads the refusal of the gateway from an answer; `undefined` if the answer is the backend's own.
 *
 * The gateway writes a problem document, or on a route with `reject: code_200` the status 200 and
 * `{"code":401,"message":"invalid_token","request_id":"…"}`. `wx.downloadFile` shows neither header nor body,
 * so there a 401 counts as the gateway's.
 */
function refusal(response) {
  const status = response.statusCode
  const body = json(response.data)
  const isOurs = body !== undefined && typeof body.request_id === 'string'
  if (isOurs && status >= 400 && typeof body.code === 'string') {
    return error(body.code, status, body.error_description || body.detail || body.title, body, response)
  }
  if (isOurs && status === 200 && [401, 403, 429, 503].indexOf(body.code) !== -1 && typeof body.message === 'string') {
    return error(body.message, body.code, undefined, body, response)
  }
  const challenge = header(response, 'www-authenticate')
  if (status === 401 && challenge !== undefined && challenge.indexOf('realm="menshen"') !== -1) {
    return error('invalid_token', 401, undefined, undefined, response)
  }
  if (status === 401 && response.data === undefined && challenge === undefined) {
    return error('invalid_token', 401, undefined, undefined, response)
  }
  return undefined
}

function error(code, status, text, body, response) {
  const details = { status, requestId: body && body.request_id, retryAfter: retryAfter(response) }
  return new MenshenError(code, text ? code + ': ' + text : code, details)
}

/** The error for an answer of `/auth/…` that is not a success. */
function failure(response) {
  const known = refusal(response)
  if (known !== undefined) return known
  const text = 'the answer with status ' + response.statusCode + ' is not one of the gateway'
  return new MenshenError('unexpected_answer', text, { status: response.statusCode, retryAfter: retryAfter(response) })
}

module.exports = { failure, header, json, refusal }
