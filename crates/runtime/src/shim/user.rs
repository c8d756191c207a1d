//! Who a process is to be, looked up in the container's `/etc/passwd` and `/etc/group`. Pure.

use crate::spec::UserSpec;

#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary, in the order: asked for, then the group file's.
    pub groups: Vec<u32>,
    pub home: String,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(User { name, uid, gid, home })
    })
}

/// Name, number and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// Follows the OCI runtimes: a number need not be in the files, a name must.
pub fn resolve(spec: &UserSpec, passwd: &str, group: &str) -> Result<Identity, String> {
    let (name, group_name) = match spec.name.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (spec.name.as_str(), None),
    };
    let name = if name.is_empty() { "0" } else { name };
    // A name wins over a number, so that a user called "1000" is found as such.
    let entry = users(passwd).find(|u| u.name == name).or_else(|| {
        let number: u32 = name.parse().ok()?;
        users(passwd).find(|u| u.uid == number)
    });
    let uid = match (&entry, name.parse::<u32>()) {
        (Some(user), _) => user.uid,
        (None, Ok(number)) if number <= i32::MAX as u32 => number,
        _ => {
            return Err(format!("unable to find user {name}: no matching entries in passwd file"));
        }
    };
    let named_group = match group_name {
        Some(wanted) => Some(
            groups(group)
                .find(|(n, ..)| *n == wanted)
                .map(|(_, gid, _)| gid)
                .or_else(|| wanted.parse().ok())
                .ok_or_else(|| format!("unable to find group {wanted}: no matching entries in group file"))?,
        ),
        None => None,
    };
    let gid = spec.gid.or(named_group).or(entry.as_ref().map(|u| u.gid)).unwrap_or(0);
    // The primary group is always among the supplementary ones, as containerd has it.
    let mut supplementary = vec![gid];
    supplementary.extend(&spec.supplemental);
    if !spec.strict
        && let Some(user) = &entry
    {
        let memberships = groups(group).filter(|(_, _, members)| members.split(',').any(|m| m == user.name));
        supplementary.extend(memberships.map(|(_, gid, _)| gid));
    }
    let mut seen = std::collections::BTreeSet::new();
    supplementary.retain(|gid| seen.insert(*gid));
    let home = entry.as_ref().map(|u| u.home).filter(|h| !h.is_empty()).unwrap_or("/");
    Ok(Identity { uid, gid, groups: supplementary, home: home.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/sbin/nologin\nbroken line\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:4:web,other\n";

    fn check(spec: UserSpec, expected: Result<(u32, u32, &[u32], &str), &str>) {
        let got = resolve(&spec, PASSWD, GROUP);
        let got = got.as_ref().map(|i| (i.uid, i.gid, i.groups.as_slice(), i.home.as_str())).map_err(String::as_str);
        assert_eq!(got, expected, "{spec:?}");
    }

    fn named(name: &str) -> UserSpec {
        UserSpec { name: name.to_owned(), ..UserSpec::default() }
    }

    #[test]
    fn users_and_groups() {
        check(named(""), Ok((0, 0, &[0], "/root")));
        check(named("web"), Ok((33, 34, &[34, 4], "/var/www")));
        check(named("33"), Ok((33, 34, &[34, 4], "/var/www")));
        check(named("web:logs"), Ok((33, 4, &[4], "/var/www")));
        check(named("1234"), Ok((1234, 0, &[0], "/")));
        check(named("1234:99"), Ok((1234, 99, &[99], "/")));
        check(named("nobody"), Err("unable to find user nobody: no matching entries in passwd file"));
        check(named("web:nope"), Err("unable to find group nope: no matching entries in group file"));
        check(named("4294967295"), Err("unable to find user 4294967295: no matching entries in passwd file"));
        let asked = UserSpec { name: "web".into(), gid: Some(7), supplemental: vec![100, 7], strict: false };
        check(asked.clone(), Ok((33, 7, &[7, 100, 4], "/var/www")));
        check(UserSpec { strict: true, ..asked }, Ok((33, 7, &[7, 100], "/var/www")));
    }
}
