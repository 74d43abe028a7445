//! What replies mean: data, read by [`super::classify`]. Each table says where its facts come from and when they were
//! looked up; the texts are as short as they can be and still be told apart. A provider whose words are not known for sure
//! has a rule on its numbers or none. Each rule has a fixture in `fixtures.tsv`.

use super::rule::Rule;

mod google;

mod microsoft;

mod yahoo;

mod apple;

mod access;

mod asia;

mod gateways;

mod generic;

/// Rules that are asked together.
pub(super) struct Table {
    /// The sites they are about; none: all.
    pub(super) sites: &'static [&'static str],
    /// The rules; the first that knows a reply counts.
    pub(super) rules: &'static [Rule],
}

const fn table(sites: &'static [&'static str], rules: &'static [Rule]) -> Table {
    Table { sites, rules }
}

/// All tables: what is about a site before what is about everybody.
pub(super) const TABLES: &[Table] = &[
    table(&["google"], google::RULES),
    table(&["microsoft-365", "microsoft-consumer"], microsoft::RULES),
    table(&["yahoo", "yahoo-japan"], yahoo::RULES),
    table(&["apple"], apple::RULES),
    table(&["comcast"], access::COMCAST),
    table(&["orange", "laposte"], access::ORANGE),
    table(&["gmx", "ionos"], access::GMX),
    table(&["t-online"], access::T_ONLINE),
    table(&["mail-ru"], asia::MAIL_RU),
    table(&["yandex"], asia::YANDEX),
    table(&["qq"], asia::QQ),
    table(&["netease"], asia::NETEASE),
    table(&["mimecast"], gateways::MIMECAST),
    table(&["barracuda"], gateways::BARRACUDA),
    table(&["messagelabs"], gateways::MESSAGELABS),
    table(&[], gateways::EVERYWHERE),
    table(&[], generic::SENDER),
    table(&[], generic::RECIPIENT),
    table(&[], generic::REST),
];
