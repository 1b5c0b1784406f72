//! Policy rules and the routes behind them, to and from the kernel's messages.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

use super::{ORIGIN, name, prefix};
use crate::plan::Origin;
use crate::plan::capture::{self, Local, TABLE};
use crate::rule::{Action, Family, Rule, To};

/// Marks our rules (`FRA_PROTOCOL`, Linux 4.17) and routes.
const MARK: RouteProtocol = RouteProtocol::Other(ORIGIN);

/// What the kernel says of a rule that suppresses nothing.
const NOT_SUPPRESSED: u32 = u32::MAX;

pub(super) async fn rules(handle: &Handle) -> io::Result<Vec<(Rule, Origin)>> {
    let mut rules = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let all = handle.rule().get(version).execute();
        let all: Result<Vec<_>, _> = all.try_collect().await;
        match all.map_err(super::io) {
            Ok(all) => rules.extend(all.iter().filter_map(rule)),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rules)
}

/// The routes of our table.
pub(super) async fn routes(handle: &Handle, lo: u32) -> io::Result<Vec<Local>> {
    let mut routes = Vec::new();
    for family in Family::ALL {
        let mut question = RouteMessage::default();
        question.header.address_family = of_kernel(family);
        question.attributes.push(RouteAttribute::Table(TABLE));
        let all = handle.route().get(question).execute();
        let all: Result<Vec<_>, _> = all.try_collect().await;
        match all.map_err(super::io) {
            // A kernel before 4.20 tells of all tables.
            Ok(all) => routes.extend(all.iter().filter_map(|route| local(route, lo))),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(routes)
}

/// No policy routing, no such family, or no such table.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::ENOENT)
    )
}

pub(super) async fn add_rule(handle: &Handle, rule: &Rule) -> io::Result<()> {
    let mut add = handle.rule().add();
    *add.message_mut() = message(rule);
    add.execute().await.map_err(super::io)
}

pub(super) async fn remove_rule(handle: &Handle, rule: &Rule) -> io::Result<()> {
    handle
        .rule()
        .del(message(rule))
        .execute()
        .await
        .map_err(super::io)
}

pub(super) async fn add_route(handle: &Handle, address: IpAddr, lo: u32) -> io::Result<()> {
    // Whatever else the table has for the address would be in the way.
    let add = handle.route().add(route(address, lo)?).replace();
    add.execute().await.map_err(super::io)
}

pub(super) async fn remove_route(handle: &Handle, address: IpAddr, lo: u32) -> io::Result<()> {
    let del = handle.route().del(route(address, lo)?);
    del.execute().await.map_err(super::io)
}

/// The names of links by their indexes.
pub(super) fn names(links: &[LinkMessage]) -> BTreeMap<u32, String> {
    let named = links.iter().filter_map(|link| {
        let name = name(link)?;
        Some((link.header.index, name.clone()))
    });
    named.collect()
}

/// Whether a notification is of a rule or route that may matter.
pub(super) fn concerns(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRule(rule) | RouteNetlinkMessage::DelRule(rule),
        ) => capture::is_near(preference(rule)),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => table(route) == TABLE,
        _ => false,
    }
}

fn route(address: IpAddr, lo: u32) -> io::Result<RouteMessage> {
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, prefix(address))
        .map_err(io::Error::other)?
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .protocol(MARK)
        .table_id(TABLE)
        .output_interface(lo);
    Ok(route.build())
}

fn local(route: &RouteMessage, lo: u32) -> Option<Local> {
    let is_local = route.header.kind == RouteType::Local
        && table(route) == TABLE
        && route.attributes.contains(&RouteAttribute::Oif(lo));
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        });
    let address = address.filter(|&at| route.header.destination_prefix_length == prefix(at))?;
    is_local.then_some(Local {
        address,
        origin: origin(route.header.protocol),
    })
}

fn table(route: &RouteMessage) -> u32 {
    let given = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    given.unwrap_or_else(|| route.header.table.into())
}

fn origin(protocol: RouteProtocol) -> Origin {
    if protocol == MARK {
        Origin::Ours
    } else {
        Origin::Foreign
    }
}

fn of_kernel(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = of_kernel(rule.family);
    let mut attributes = vec![
        RuleAttribute::Priority(rule.preference),
        RuleAttribute::Protocol(MARK),
    ];
    if let Some(address) = rule.from {
        header.src_len = prefix(address);
        attributes.push(RuleAttribute::Source(address));
    }
    match rule.to {
        To::All => {}
        To::Only(address) | To::AllBut(address) => {
            header.dst_len = prefix(address);
            attributes.push(RuleAttribute::Destination(address));
        }
    }
    if matches!(rule.to, To::AllBut(_)) {
        header.flags = RuleFlags::Invert;
    }
    if let Some(link) = &rule.link {
        attributes.push(RuleAttribute::Iifname(link.clone()));
    }
    header.action = match rule.action {
        Action::Goto(target) => {
            attributes.push(RuleAttribute::Goto(target));
            RuleAction::Goto
        }
        Action::Lookup(table) => {
            attributes.push(RuleAttribute::Table(table));
            RuleAction::ToTable
        }
        Action::Unreachable => RuleAction::Unreachable,
        Action::Nop => RuleAction::Nop,
    };
    message.attributes = attributes;
    message
}

fn preference(message: &RuleMessage) -> u32 {
    let given = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(preference) => Some(*preference),
            _ => None,
        });
    // The kernel leaves out a 0.
    given.unwrap_or_default()
}

/// What is like ours; `None` also for a rule of others with anything else in it.
fn rule(message: &RuleMessage) -> Option<(Rule, Origin)> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let (mut from, mut to, mut link) = (None, None, None);
    let (mut target, mut table, mut origin) = (None, u32::from(header.table), Origin::Foreign);
    let mut is_plain = true;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => from = Some(*address),
            RuleAttribute::Destination(address) => to = Some(*address),
            RuleAttribute::Iifname(name) => link = Some(name.clone()),
            RuleAttribute::Goto(preference) => target = Some(*preference),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Protocol(protocol) => origin = self::origin(*protocol),
            RuleAttribute::Priority(_) | RuleAttribute::SuppressPrefixLen(NOT_SUPPRESSED) => {}
            _ => is_plain = false,
        }
    }
    // What later kernels say of all rules is no reason not to know our own.
    if !is_plain && origin == Origin::Foreign {
        return None;
    }
    let is_host = |address: Option<IpAddr>, length: u8| length == address.map_or(0, prefix);
    if !is_host(from, header.src_len) || !is_host(to, header.dst_len) {
        return None;
    }
    let is_inverted = header.flags.contains(RuleFlags::Invert);
    let rule = Rule {
        family,
        preference: preference(message),
        from,
        to: match to {
            None => To::All,
            Some(address) if is_inverted => To::AllBut(address),
            Some(address) => To::Only(address),
        },
        link,
        action: match header.action {
            RuleAction::Goto => Action::Goto(target?),
            RuleAction::ToTable => Action::Lookup(table),
            RuleAction::Unreachable => Action::Unreachable,
            RuleAction::Nop => Action::Nop,
            _ => return None,
        },
    };
    Some((rule, origin))
}
