//! What the pages say, in each language.

use std::borrow::Cow;

use serde::Serialize;

use super::{HandOverDoubt, Language, Notice};

/// The words of a notice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) heading: &'static str,
    /// What happened, and what to do.
    pub(super) sentence: &'static str,
    /// The button.
    pub(super) retry: &'static str,
}

/// The words of the sign-in page.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SignInWords {
    pub(super) heading: &'static str,
    /// Next to the QR code.
    pub(super) scan: &'static str,
    /// The button if there is one choice.
    pub(super) go_on: &'static str,
    /// The link next to the QR code, for a user who does not see the code.
    pub(super) no_qr_code: &'static str,
    /// Above the other choices.
    pub(super) others: &'static str,
    /// Above the QR code on a phone that can sign in in WeChat.
    pub(super) other_phone: &'static str,
    /// The name of the frame with the QR code, for screen readers.
    pub(super) qr_code: &'static str,
}

/// The browser of a user, and what the user can do in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Situation {
    /// In WeChat, with this number of official accounts.
    WeChat(usize),
    /// In WeChat, with websites only. A phone cannot scan a QR code on its own screen.
    WeChatNeedsComputer,
    /// In another browser, with this number of websites.
    Browser(usize),
    /// The same on a phone, which can show the QR code to another phone and cannot scan it itself.
    Phone(usize),
    /// In another browser, with official accounts only.
    BrowserNeedsWeChat,
}

impl Language {
    pub(super) const fn sign_in(self, is_on_phone: bool) -> SignInWords {
        match self {
            Self::Chinese => SignInWords {
                heading: "微信登录",
                scan: if is_on_phone {
                    "请用另一部手机的微信扫描二维码，或在电脑上打开本页"
                } else {
                    "请用手机微信扫描二维码"
                },
                go_on: "使用微信登录",
                no_qr_code: "看不到二维码？去微信页面扫码",
                others: "其他登录方式",
                other_phone: "或者",
                qr_code: "微信登录二维码",
            },
            Self::English => SignInWords {
                heading: "Sign in with WeChat",
                scan: if is_on_phone {
                    "Scan the QR code with WeChat on another phone, or open this page on a computer"
                } else {
                    "Scan the QR code with WeChat on your phone"
                },
                go_on: "Continue with WeChat",
                no_qr_code: "No QR code? Open WeChat’s page",
                others: "Other ways to sign in",
                other_phone: "Or",
                qr_code: "WeChat QR code",
            },
        }
    }

    /// The sentence under the heading of the sign-in page.
    pub(super) const fn sentence(self, situation: Situation) -> &'static str {
        match (self, situation) {
            (Self::Chinese, Situation::WeChat(0 | 1)) => "只需轻轻一点，即可继续",
            (Self::English, Situation::WeChat(0 | 1)) => "Tap once to continue",
            (Self::Chinese, Situation::WeChat(_)) => "请选择登录方式",
            (Self::English, Situation::WeChat(_)) => "Choose how to sign in",
            (Self::Chinese, Situation::WeChatNeedsComputer) => {
                "手机无法扫描自己屏幕上的二维码。请在电脑上打开本页，再用手机微信扫码。"
            }
            (Self::English, Situation::WeChatNeedsComputer) => {
                "A phone cannot scan its own screen. Open this page on a computer, then scan the QR code with WeChat on your phone."
            }
            (Self::Chinese, Situation::Browser(0 | 1)) => "微信会显示一个二维码，请用手机微信扫描",
            (Self::English, Situation::Browser(0 | 1)) => {
                "WeChat will show a QR code; scan it with WeChat on your phone"
            }
            (Self::Chinese, Situation::Browser(_)) => "请选择登录方式，再用手机微信扫码",
            (Self::English, Situation::Browser(_)) => {
                "Choose how to sign in, then scan the QR code with WeChat on your phone"
            }
            (Self::Chinese, Situation::Phone(0 | 1)) => {
                "微信会显示一个二维码，手机无法扫描自己的屏幕：请用另一部手机的微信扫描，或在电脑上打开本页。"
            }
            (Self::English, Situation::Phone(0 | 1)) => {
                "WeChat will show a QR code, and a phone cannot scan its own screen: scan it with WeChat on another phone, or open this page on a computer."
            }
            (Self::Chinese, Situation::Phone(_)) => {
                "请选择登录方式，再用另一部手机的微信扫码，或在电脑上打开本页。"
            }
            (Self::English, Situation::Phone(_)) => {
                "Choose how to sign in, then scan the QR code with WeChat on another phone, or open this page on a computer."
            }
            (Self::Chinese, Situation::BrowserNeedsWeChat) => {
                "请在微信中打开本页：复制网址，发送给“文件传输助手”，再从聊天中点开。"
            }
            (Self::English, Situation::BrowserNeedsWeChat) => {
                "Please open this page in WeChat: copy its address, send it to yourself in a chat, and tap it there."
            }
        }
    }

    /// The words for choices that work in another browser, next to those that work in this one.
    pub(super) const fn elsewhere(self, is_in_wechat: bool) -> &'static str {
        match (self, is_in_wechat) {
            (Self::Chinese, true) => "正在使用电脑版微信？",
            (Self::English, true) => "Using WeChat on a computer?",
            (Self::Chinese, false) => "也可以在手机微信中打开本页登录",
            (Self::English, false) => "Or open this page in WeChat on your phone",
        }
    }

    /// How long the user must wait, after the sentence that says why.
    pub(super) fn wait(self, seconds: u64) -> Cow<'static, str> {
        match (self, seconds.div_ceil(60)) {
            (Self::Chinese, 0 | 1) => "请等一分钟再试。".into(),
            (Self::English, 0 | 1) => " Wait a minute, then try again.".into(),
            (Self::Chinese, minutes) => format!("请等 {minutes} 分钟再试。").into(),
            (Self::English, minutes) => format!(" Wait {minutes} minutes, then try again.").into(),
        }
    }

    /// The button that signs out.
    pub(super) const fn sign_out(self, notice: Notice) -> &'static str {
        match (self, notice) {
            (Self::Chinese, Notice::StillSignedIn) => "退出登录",
            (Self::English, Notice::StillSignedIn) => "Sign out",
            (Self::Chinese, _) => "退出登录，换一个账号",
            (Self::English, _) => "Sign out to use another account",
        }
    }

    /// The button that copies the address of the page, before and after.
    pub(super) const fn copy(self) -> (&'static str, &'static str) {
        match self {
            Self::Chinese => ("复制网址", "已复制"),
            Self::English => ("Copy the address", "Copied"),
        }
    }

    /// The link to the root of the origin.
    pub(super) const fn home(self) -> &'static str {
        match self {
            Self::Chinese => "回到首页",
            Self::English => "Go to the home page",
        }
    }

    /// Next to the id of a request.
    pub(super) const fn request_id(self) -> &'static str {
        match self {
            Self::Chinese => "请求编号",
            Self::English => "Request ID",
        }
    }

    /// The question before a session is handed over.
    pub(super) const fn hand_over(self, doubt: HandOverDoubt) -> Words {
        match (self, doubt) {
            (Self::Chinese, HandOverDoubt::OtherUser) => Words {
                heading: "要换一个账号吗？",
                sentence: "这个浏览器已经登录了另一个账号。继续后，将改用在小程序中打开此页的账号。",
                retry: "换用小程序的账号",
            },
            (Self::English, HandOverDoubt::OtherUser) => Words {
                heading: "Use another account?",
                sentence: "Another account is signed in to this browser. If you continue, you will use the account that opened this page in the mini program.",
                retry: "Use the mini program’s account",
            },
            (Self::Chinese, HandOverDoubt::OtherSite) => Words {
                heading: "这是你的账号吗？",
                sentence: "继续后，你将以打开此链接的小程序账号登录。如果不是你自己在小程序中打开的，请关闭此页：这可能是别人的账号。",
                retry: "是我打开的，继续",
            },
            (Self::English, HandOverDoubt::OtherSite) => Words {
                heading: "Is this your account?",
                sentence: "If you continue, you will be signed in with the account of the mini program that made this link. If you did not open it there yourself, close this page: it may be the account of another person.",
                retry: "I opened it, continue",
            },
        }
    }

    pub(super) const fn notice(self, notice: Notice) -> Words {
        match self {
            Self::Chinese => chinese(notice),
            Self::English => english(notice),
        }
    }
}

impl HandOverDoubt {
    /// Every doubt, for the test of templates.
    pub(super) const ALL: [Self; 2] = [Self::OtherUser, Self::OtherSite];
}

impl Notice {
    /// Every notice, for the test of templates. A test counts them.
    pub(super) const ALL: [Self; 28] = [
        Self::SignedOut,
        Self::HandedOver,
        Self::TicketUnknown,
        Self::StillSignedIn,
        Self::Refused,
        Self::Expired,
        Self::CodeInvalid,
        Self::OtherBrowser,
        Self::SnapshotVisitor,
        Self::OpenInWeChat,
        Self::UserBlocked,
        Self::NotPermitted,
        Self::Throttled,
        Self::Unavailable,
        Self::Misconfigured,
        Self::NothingToSignInTo,
        Self::Malformed,
        Self::OriginUnknown,
        Self::NotSignedIn,
        Self::CrossSite,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::HeaderTooLarge,
        Self::TooLarge,
        Self::TimedOut,
        Self::BackendUnavailable,
        Self::Busy,
        Self::Internal,
    ];

    /// The word that templates know it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::HandedOver => "handed_over",
            Self::TicketUnknown => "ticket_unknown",
            Self::StillSignedIn => "still_signed_in",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::CodeInvalid => "code_invalid",
            Self::OtherBrowser => "other_browser",
            Self::SnapshotVisitor => "snapshot_visitor",
            Self::OpenInWeChat => "open_in_wechat",
            Self::UserBlocked => "user_blocked",
            Self::NotPermitted => "not_admitted",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
            Self::NothingToSignInTo => "nothing_to_sign_in_to",
            Self::Malformed => "malformed",
            Self::OriginUnknown => "origin_unknown",
            Self::NotSignedIn => "not_signed_in",
            Self::CrossSite => "cross_site",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::HeaderTooLarge => "header_too_large",
            Self::TooLarge => "too_large",
            Self::TimedOut => "timed_out",
            Self::BackendUnavailable => "backend_unavailable",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// Whether its words send the user to the home page of the site.
    pub const fn leads_home(self) -> bool {
        matches!(
            self,
            Self::NothingToSignInTo
                | Self::Malformed
                | Self::CrossSite
                | Self::NotFound
                | Self::MethodNotAllowed
        )
    }

    /// Whether its words ask the user to copy the address.
    pub(super) const fn copies(self) -> bool {
        matches!(self, Self::OpenInWeChat)
    }

    /// How the page looks: `good` if something is done, `info` if the user must do something,
    /// `trouble` if something failed.
    pub(super) const fn tone(self) -> &'static str {
        match self {
            Self::SignedOut | Self::HandedOver => "good",
            Self::Refused
            | Self::TicketUnknown
            | Self::Expired
            | Self::OtherBrowser
            | Self::SnapshotVisitor
            | Self::OpenInWeChat
            | Self::NotSignedIn
            | Self::NotFound
            | Self::HeaderTooLarge
            | Self::TooLarge
            | Self::TimedOut
            | Self::Busy
            | Self::Throttled => "info",
            Self::StillSignedIn
            | Self::CodeInvalid
            | Self::UserBlocked
            | Self::NotPermitted
            | Self::Unavailable
            | Self::Misconfigured
            | Self::NothingToSignInTo
            | Self::Malformed
            | Self::OriginUnknown
            | Self::CrossSite
            | Self::MethodNotAllowed
            | Self::BackendUnavailable
            | Self::Internal => "trouble",
        }
    }
}

const fn chinese(notice: Notice) -> Words {
    let (heading, sentence) = match notice {
        Notice::SignedOut => ("已退出登录", "你已安全退出，可以关闭此页。"),
        Notice::HandedOver => ("已登录", "现在使用的是小程序的账号。"),
        Notice::TicketUnknown => {
            ("链接已失效", "这个链接只能使用一次，而且很快就会过期。请回到小程序，重新打开此页。")
        }
        Notice::StillSignedIn => (
            "你还没有退出登录",
            "刚才没能退出，你仍然处于登录状态。请再试一次；如果这是别人也会使用的设备，请先不要离开。",
        ),
        Notice::Refused => ("登录已取消", "你在手机上取消了这次登录。随时可以重新开始。"),
        Notice::Expired => ("登录已过期", "这次登录等待得太久，或者已经完成。请重新开始。"),
        Notice::CodeInvalid => ("登录没有完成", "微信没有接受这次登录。请重新开始。"),
        Notice::OtherBrowser => (
            "请在这个浏览器中重新登录",
            "这次登录是在别处开始的，或者浏览器没有保存 Cookie。请在这里重新开始；如果还是不行，请允许本站使用 Cookie。",
        ),
        Notice::SnapshotVisitor => (
            "请打开完整页面",
            "现在看到的是微信的网页快照，在快照中无法登录。请点击页面底部的“使用完整服务”，然后重新登录。",
        ),
        Notice::OpenInWeChat => {
            ("请在微信中打开", "这里需要在微信中登录。请复制网址，发送给“文件传输助手”，再从聊天中点开。")
        }
        Notice::UserBlocked => (
            "暂时无法登录",
            "这个账号被微信或本站限制了登录。如果微信里没有相关提示，请把下面的编号告诉网站管理员。",
        ),
        Notice::NotPermitted => {
            ("无法查看此页", "这个账号没有查看此页的权限。如果有误，请把下面的编号告诉网站管理员。")
        }
        Notice::Throttled => ("请稍等片刻", "短时间内尝试的次数有些多。"),
        Notice::Unavailable => ("暂时无法登录", "登录服务正忙，通常很快就会恢复。请稍后再试。"),
        Notice::Misconfigured => {
            ("登录暂不可用", "本站的微信登录还没有设置好。请把下面的编号告诉网站管理员。")
        }
        Notice::NothingToSignInTo => ("此网址无法登录", "这个网址没有对应的登录方式。请从网站首页重新进入。"),
        Notice::Malformed => {
            ("无法打开此页", "这个网址不完整，或者浏览器发来的请求有误。请从网站首页重新进入。")
        }
        Notice::OriginUnknown => (
            "这个网址还不能登录",
            "这里没有设置微信登录，请换用网站平时的网址。如果你是管理员：请把地址栏里的来源（例如 https://shop.example.com）加到 login.origins，并让前面的代理原样传递 Host；访问日志里的 server.address 就是网关收到的 Host。",
        ),
        Notice::NotSignedIn => ("需要登录", "此页需要登录，但不能在浏览器中登录。请从小程序或应用中打开。"),
        Notice::CrossSite => {
            ("操作没有执行", "这个请求来自其他网站，为了你的安全没有执行。请从网站首页重新进入。")
        }
        Notice::NotFound => ("找不到此页", "这个网址下没有页面。请检查网址，或从网站首页重新进入。"),
        Notice::MethodNotAllowed => ("这个网址不是页面", "它不能在浏览器中直接打开。请从网站首页重新进入。"),
        Notice::HeaderTooLarge => (
            "Cookie 太多",
            "浏览器发来的信息太长，通常是因为本站的 Cookie 太多。请清除本站的 Cookie，然后再试一次。",
        ),
        Notice::TooLarge => ("内容太大", "你发送的内容超过了上限。请换一个小一些的文件再试。"),
        Notice::TimedOut => ("连接太慢", "没有及时收到你发送的内容。请检查网络，然后再试一次。"),
        Notice::BackendUnavailable => (
            "网站暂时打不开",
            "网站的服务器没有正常回应，通常很快就会恢复。请稍后再试；如果一直这样，请把下面的编号告诉网站管理员。",
        ),
        Notice::Busy => ("网站正忙", "现在访问的人很多，通常很快就会恢复。请稍后再试。"),
        Notice::Internal => {
            ("出了点问题", "问题在我们这边，请稍后再试。如果一直这样，请把下面的编号告诉网站管理员。")
        }
    };
    let retry = match notice {
        Notice::SignedOut | Notice::Expired | Notice::CodeInvalid | Notice::OtherBrowser => "重新登录",
        Notice::HandedOver => "继续",
        _ => "再试一次",
    };
    Words { heading, sentence, retry }
}

const fn english(notice: Notice) -> Words {
    let (heading, sentence) = match notice {
        Notice::SignedOut => ("You are signed out", "All done. You can close this page."),
        Notice::HandedOver => ("You are signed in", "You now use the account of the mini program."),
        Notice::TicketUnknown => (
            "This link does not work any more",
            "The link can be used once, and only for a short time. Go back to the mini program and open the page again.",
        ),
        Notice::StillSignedIn => (
            "You are still signed in",
            "Signing out did not work just now. Please try again. If other people use this device, do not leave it until you are signed out.",
        ),
        Notice::Refused => (
            "Sign-in cancelled",
            "You cancelled this sign-in on your phone. You can start again at any time.",
        ),
        Notice::Expired => {
            ("This sign-in has expired", "It took too long, or it is already finished. Please start again.")
        }
        Notice::CodeInvalid => {
            ("Sign-in not finished", "WeChat did not accept this sign-in. Please start again.")
        }
        Notice::OtherBrowser => (
            "Please sign in again in this browser",
            "This sign-in was started elsewhere, or the browser keeps no cookies. Start again here; if that does not help, allow cookies for this site.",
        ),
        Notice::SnapshotVisitor => (
            "Please open the full page",
            "You see WeChat’s snapshot of the page. You cannot sign in to a snapshot. Tap “使用完整服务” (use the full service) at the bottom, then sign in again.",
        ),
        Notice::OpenInWeChat => (
            "Please open this in WeChat",
            "Here you can sign in only inside WeChat. Copy the address, send it to yourself in a chat, and tap it there.",
        ),
        Notice::UserBlocked => (
            "You cannot sign in right now",
            "WeChat or this site has blocked this account. If WeChat does not show that it is blocked, tell the site’s administrator the ID below.",
        ),
        Notice::NotPermitted => (
            "You cannot open this page",
            "This account is not allowed to open it. If that is a mistake, tell the site’s administrator the ID below.",
        ),
        Notice::Throttled => ("One moment, please", "There were too many attempts in a short time."),
        Notice::Unavailable => (
            "You cannot sign in right now",
            "Sign-in is busy; usually this is over soon. Please try again in a moment.",
        ),
        Notice::Misconfigured => (
            "Sign-in is not available",
            "WeChat sign-in is not set up properly on this site. Please tell its administrator the ID below.",
        ),
        Notice::NothingToSignInTo => (
            "There is nothing to sign in to",
            "You cannot sign in at this address. Please start from the site’s home page.",
        ),
        Notice::Malformed => (
            "This page cannot be opened",
            "The address is not complete, or the browser sent something that makes no sense. Please start from the site’s home page.",
        ),
        Notice::OriginUnknown => (
            "You cannot sign in at this address",
            "Sign-in is not set up here. Please use the site’s usual address. If you run this site: add the origin in the address bar, such as https://shop.example.com, to login.origins, and let a proxy in front pass Host on unchanged. The access log shows the Host that the gateway received as server.address.",
        ),
        Notice::NotSignedIn => (
            "Please sign in",
            "This page is for users who are signed in, and you cannot sign in to it with a browser. Please open it from the mini program or the app.",
        ),
        Notice::CrossSite => (
            "Nothing was done",
            "Another site sent this request. To protect you, it was not carried out. Please start from the site’s home page.",
        ),
        Notice::NotFound => (
            "Page not found",
            "There is no page at this address. Please check it, or start from the site’s home page.",
        ),
        Notice::MethodNotAllowed => (
            "This address is not a page",
            "You cannot open it in a browser. Please start from the site’s home page.",
        ),
        Notice::HeaderTooLarge => (
            "Too many cookies",
            "Your browser sent more than this site reads, usually because it keeps too many cookies of the site. Please delete them, then try again.",
        ),
        Notice::TooLarge => {
            ("Too large", "What you sent is larger than this site accepts. Please try a smaller file.")
        }
        Notice::TimedOut => (
            "The connection is too slow",
            "What you sent did not arrive in time. Please check your connection, then try again.",
        ),
        Notice::BackendUnavailable => (
            "The site does not answer",
            "Its server does not respond properly; usually this is over soon. Please try again in a moment. If it happens again, tell the site’s administrator the ID below.",
        ),
        Notice::Busy => (
            "The site is busy",
            "There are many visitors now; usually this is over soon. Please try again in a moment.",
        ),
        Notice::Internal => (
            "Something went wrong",
            "The problem is on our side; please try again in a moment. If it happens again, tell the site’s administrator the ID below.",
        ),
    };
    let retry = match notice {
        Notice::SignedOut | Notice::Expired | Notice::CodeInvalid | Notice::OtherBrowser => "Sign in again",
        Notice::HandedOver => "Continue",
        _ => "Try again",
    };
    Words { heading, sentence, retry }
}
