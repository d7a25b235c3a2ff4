/** What a request rejects with. */
export class MenshenError extends Error {
  /**
   * A word of the gateway (docs/http-api.md), or one of this client: `network`, `unexpected_answer`, `login_failed`,
   * `signed_out`, `aborted`, `url_not_relative`.
   */
  code: string
  /** The HTTP status, if there was an answer. */
  status?: number
  /** The id of the request in the gateway's log. */
  requestId?: string
  /** Seconds after which the request may be sent again. */
  retryAfter?: number
  /** The text of the platform. */
  errMsg?: string
}

export interface ClientOptions {
  /** Address of the gateway, such as `https://shop.example.com`. */
  baseUrl: string
  /** Name of the mini program in the gateway's configuration, if it has several. */
  app?: string
  /** A name for this device, which `GET /auth/session` shows. */
  device?: string
  /** `wx` by default; `uni` and `Taro` have the same functions. */
  platform?: object
  /** Longest `Retry-After` that is waited for, in seconds. Default: 10. */
  maxWait?: number
  /** `login.path_prefix` of the gateway. Default: `/auth`. */
  authPath?: string
  /** Key of the tokens in the storage. */
  storageKey?: string
}

export type Auth = boolean | 'optional'

export interface Callbacks<T> {
  success?(result: T): void
  fail?(error: MenshenError): void
  complete?(result: T | MenshenError): void
}

export interface Result<T = any> {
  statusCode: number
  data: T
  header: Record<string, string>
  cookies?: string[]
  errMsg: string
}

/** What `wx.request` takes, with a path of the gateway as `url`. */
export interface RequestOptions<T = any> extends Callbacks<Result<T>> {
  /** A path of the gateway, such as `/orders/7`. */
  url: string
  /**
   * `true` signs in if there is no token; `'optional'` sends the token if there is one; `false` sends none.
   * Default: `true`.
   */
  auth?: Auth
  method?: 'OPTIONS' | 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE' | 'TRACE' | 'CONNECT' | 'PATCH'
  data?: any
  header?: Record<string, string>
  timeout?: number
  [option: string]: any
}

export interface UploadOptions extends Callbacks<Result<string>> {
  url: string
  auth?: Auth
  filePath: string
  name: string
  formData?: Record<string, any>
  header?: Record<string, string>
  [option: string]: any
}

export interface DownloadResult { statusCode: number, tempFilePath: string, filePath?: string, errMsg: string }

export interface DownloadOptions extends Callbacks<DownloadResult> {
  url: string
  auth?: Auth
  filePath?: string
  header?: Record<string, string>
  [option: string]: any
}

export interface SocketOptions extends Callbacks<any> {
  url: string
  auth?: Auth
  protocols?: string[]
  header?: Record<string, string>
  [option: string]: any
}

export interface Abortable { abort(): void }

/** A promise with the functions of the platform's task. */
export interface Task<T> extends Promise<T>, Abortable {
  onProgressUpdate(listener: (progress: any) => void): void
  offProgressUpdate(listener?: (progress: any) => void): void
  onHeadersReceived(listener: (result: any) => void): void
  offHeadersReceived(listener?: (result: any) => void): void
  onChunkReceived(listener: (result: any) => void): void
  offChunkReceived(listener?: (result: any) => void): void
}

export interface Cloud {
  init(options?: object): void
  callContainer<T = any>(options: object): Task<Result<T>>
}

export interface Client {
  request<T = any>(options: RequestOptions<T>): Task<Result<T>>
  uploadFile(options: UploadOptions): Task<Result<string>>
  downloadFile(options: DownloadOptions): Task<DownloadResult>
  /** A promise of the platform's `SocketTask`. */
  connectSocket(options: SocketOptions): Promise<any> & Abortable
  /** Signs in now, also after `signOut()`. */
  signIn(): Promise<void>
  /** Ends the session; afterwards requests reject with `signed_out`, until `signIn()`. */
  signOut(options?: { everywhere?: boolean }): Promise<void>
  /** As `wx.cloud.callContainer`. */
  callContainer<T = any>(options: object): Task<Result<T>>
  /** What replaces `wx.cloud` in code that was written for WeChat Cloud Run. */
  cloud(): Cloud
}

export function createClient(options: ClientOptions): Client
