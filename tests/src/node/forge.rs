//! A pod that takes its neighbour's address: what containers can do to each
//! other with the capabilities that they have in their own network namespace.

use std::io;
use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::{Handle, LinkUnspec};

use super::links::{add_address, host_prefix, link_index};
use super::{ETH0, Pod, netlink};

/// How far a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// It can send from the address; nobody else learns of that.
    Silent,
    /// Its next packet asks for the gateway first, in the name of the address,
    /// and so tells everybody on a bridge where the address is now.
    Announced,
    /// The same from another link-layer address than its own, such as the
    /// victim's, which a bridge then has at the forger's port.
    From([u8; 6]),
}

impl Pod {
    /// Gives the pod its victim's addresses beside its own, for it to bind.
    /// Anything but [`Forgery::Silent`] is for pods on a bridge: it takes away
    /// what the others reach their gateway by.
    pub async fn forge(&self, victim: &Pod, forgery: Forgery) -> io::Result<()> {
        let addresses = [Some(victim.ipv4.into()), victim.ipv6.map(IpAddr::V6)];
        self.ns
            .run(async move || {
                let handle = netlink()?;
                let link = link_index(&handle, ETH0).await?;
                for address in addresses.into_iter().flatten() {
                    add_address(&handle, link, address, host_prefix(address)).await?;
                }
                match forgery {
                    Forgery::Silent => Ok(()),
                    Forgery::Announced => forget_neighbours(&handle).await,
                    Forgery::From(mac) => {
                        let mac = LinkUnspec::new_with_index(link).address(mac.to_vec());
                        let change = handle.link().change(mac.build());
                        change.execute().await.map_err(io::Error::other)?;
                        forget_neighbours(&handle).await
                    }
                }
            })
            .await
    }

    /// Its next packet asks for the gateway first, and so tells everybody on a
    /// bridge where its own address is.
    pub async fn announce(&self) -> io::Result<()> {
        let forget = async || forget_neighbours(&netlink()?).await;
        self.ns.run(forget).await
    }
}

async fn forget_neighbours(handle: &Handle) -> io::Result<()> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let dump = handle.neighbours().get().set_address_family(family);
        let entries: Vec<_> = dump
            .execute()
            .try_collect()
            .await
            .map_err(io::Error::other)?;
        for entry in entries {
            let del = handle.neighbours().del(entry);
            del.execute().await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}
