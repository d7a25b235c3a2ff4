//! The language that the demo speaks.

/// A language of the demo's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoLanguage {
    /// 简体中文
    Chinese,
    /// English
    English,
}

impl DemoLanguage {
    /// The language of the terminal, by the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is
    /// set. See POSIX, Base Definitions §8.2.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(variable);
        match set.find(|value| !value.is_empty()) {
            Some(value) if value.to_ascii_lowercase().starts_with("zh") => Self::Chinese,
            _ => Self::English,
        }
    }

    /// Parses the name that `--lang` gets.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "zh" => Some(Self::Chinese),
            "en" => Some(Self::English),
            _ => None,
        }
    }

    /// Chooses the text in this language.
    pub(super) const fn choose<T: Copy>(self, english: T, chinese: T) -> T {
        match self {
            Self::Chinese => chinese,
            Self::English => english,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        for (set, expected) in [
            (&[][..], DemoLanguage::English),
            (&[("LANG", "zh_CN.UTF-8")], DemoLanguage::Chinese),
            (&[("LANG", "C.UTF-8")], DemoLanguage::English),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "en_US.UTF-8")], DemoLanguage::English),
            (&[("LANG", "en_US.UTF-8"), ("LC_MESSAGES", "zh_TW")], DemoLanguage::Chinese),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "")], DemoLanguage::Chinese),
        ] {
            let variable = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };

            assert_eq!(DemoLanguage::of_environment(variable), expected, "{set:?}");
        }
    }
}
