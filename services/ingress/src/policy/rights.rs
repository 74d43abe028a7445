//! What a principal may do: send as a domain, choose a class, a campaign or a pool. Every refusal says which word is at
//! fault and what would help.

use postrider_message::AuthorError;
use postrider_model::{Domain, Mailbox, ReversePath, Snapshot};

use super::{Choice, Principal};
use crate::refusal::{Because, Refusal};

/// The one text for every failed AUTH (RFC 4954 section 6).
pub fn wrong_credentials() -> Refusal {
    Refusal::new(Because::Credentials, 535, (5, 7, 8), "Authentication failed")
}

/// What a stranger hears: `may_authenticate` says whether AUTH would be taken here.
pub fn relay_refused(may_authenticate: bool) -> Refusal {
    if may_authenticate {
        Refusal::new(
            Because::Relay,
            530,
            (5, 7, 0),
            "Authentication required: this server relays for its own senders only",
        )
    } else {
        Refusal::new(Because::Relay, 550, (5, 7, 1), "Relaying denied: this server relays for its own senders only")
    }
}

/// May mail come from this envelope sender? `<>` may always: it is a report.
pub fn sender(snapshot: &Snapshot, principal: &Principal, sender: &ReversePath) -> Result<(), Refusal> {
    let Some(mailbox) = sender.mailbox() else { return Ok(()) };
    if principal.any_sender || snapshot.may_send_as(&principal.tenant, mailbox.domain()) {
        return Ok(());
    }
    Err(not_a_sending_domain(Because::Sender, "Envelope sender", mailbox.domain(), principal))
}

/// May mail bear this header From? The answer is its (first) domain, whose key signs. There must be exactly one field
/// (RFC 5322 section 3.6), all of it addresses of the tenant. Who may use any sender may also do without.
pub fn header_from(
    snapshot: &Snapshot,
    principal: &Principal,
    author: Result<&[Mailbox], AuthorError>,
) -> Result<Option<Domain>, Refusal> {
    let mailboxes = match author {
        Ok(mailboxes) => mailboxes,
        Err(AuthorError::Missing | AuthorError::Unreadable) if principal.any_sender => return Ok(None),
        Err(error) => {
            let text =
                format!("Header From: {error}. Exactly one is needed, with an address of yours (RFC 5322 section 3.6)");
            return Err(Refusal::new(Because::FromHeader, 550, (5, 7, 1), &text));
        }
    };
    let foreign = |mailbox: &&Mailbox| !snapshot.may_send_as(&principal.tenant, mailbox.domain());
    if !principal.any_sender
        && let Some(mailbox) = mailboxes.iter().find(foreign)
    {
        return Err(not_a_sending_domain(Because::FromDomain, "Header From", mailbox.domain(), principal));
    }
    Ok(mailboxes.first().map(|mailbox| mailbox.domain().clone()))
}

fn not_a_sending_domain(because: Because, what: &str, domain: &Domain, principal: &Principal) -> Refusal {
    let tenant = &principal.tenant;
    let text = format!(
        "{what}: {domain} is no sending domain of tenant {tenant}. Use one that is, or have {domain} added to the tenant"
    );
    Refusal::new(because, 550, (5, 7, 1), &text)
}

/// The class, campaign and pool of a message: the principal's defaults, or what the headers `X-Postrider-*` choose within
/// what is allowed. An empty header chooses nothing.
pub fn choose(
    principal: &Principal,
    class: Option<&str>,
    campaign: Option<&str>,
    pool: Option<&str>,
) -> Result<Choice, Refusal> {
    let mut choice = principal.defaults.clone();
    if let Some(class) = parse("X-Postrider-Class", class)? {
        let is_allowed = class == choice.class || principal.classes.contains(&class);
        choice.class = is_allowed.then_some(class).ok_or_else(|| not_allowed("X-Postrider-Class", class.as_str()))?;
    }
    if let Some(campaign) = parse("X-Postrider-Campaign", campaign)? {
        if !principal.may_choose_campaign && choice.campaign.as_ref() != Some(&campaign) {
            return Err(not_allowed("X-Postrider-Campaign", campaign.as_str()));
        }
        choice.campaign = Some(campaign);
    }
    if let Some(pool) = parse("X-Postrider-Pool", pool)? {
        if !principal.pools.contains(&pool) && choice.pool.as_ref() != Some(&pool) {
            return Err(not_allowed("X-Postrider-Pool", pool.as_str()));
        }
        choice.pool = Some(pool);
    }
    Ok(choice)
}

fn parse<T: std::str::FromStr>(header: &str, value: Option<&str>) -> Result<Option<T>, Refusal>
where
    T::Err: std::fmt::Display,
{
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else { return Ok(None) };
    value
        .parse()
        .map(Some)
        .map_err(|error| Refusal::new(Because::Directive, 550, (5, 6, 0), &format!("{header}: {error}")))
}

fn not_allowed(header: &str, value: &str) -> Refusal {
    let text = format!("{header}: {value} is not allowed to this credential. Leave the header out, or have it allowed");
    Refusal::new(Because::Directive, 550, (5, 7, 1), &text)
}

/// Does the message go round in circles (RFC 5321 section 6.3)?
pub fn circles(received_fields: usize, most: usize) -> Result<(), Refusal> {
    if received_fields < most {
        return Ok(());
    }
    let text =
        format!("Too many hops: the message has {received_fields} Received fields already and seems to go in circles");
    Err(Refusal::new(Because::Loop, 554, (5, 4, 6), &text))
}
