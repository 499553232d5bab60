//! File systems of a network: neither locks nor the shared memory of a write-ahead log hold there
//! (<https://sqlite.org/howtocorrupt.html> §2.1, <https://sqlite.org/wal.html>).

use std::path::Path;

/// Types as `statfs(2)` tells them, and their names.
const KINDS: [(u64, &str); 9] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x0bd0_0bd0, "lustre"),
    (0x7375_7245, "coda"),
];

/// Name of the file system that holds `dir`, where it is one of a network. What cannot be found out is
/// taken for local.
#[cfg(target_os = "linux")]
pub(super) fn kind(dir: &Path) -> Option<&'static str> {
    name(u64::try_from(rustix::fs::statfs(dir).ok()?.f_type).ok()?)
}

/// Elsewhere the system does not tell it in this way.
#[cfg(not(target_os = "linux"))]
pub(super) fn kind(_dir: &Path) -> Option<&'static str> {
    None
}

#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux tells types"))]
fn name(found: u64) -> Option<&'static str> {
    KINDS.iter().find(|(kind, _)| *kind == found).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_told_from_a_disk() {
        assert_eq!(kind(tempfile::tempdir().unwrap().path()), None);
        assert_eq!(kind(Path::new("/no/such/place")), None);
        // nfs(5) as `stat -f` shows it; ext4 and tmpfs.
        assert_eq!((name(0x6969), name(0xef53), name(0x0102_1994)), (Some("nfs"), None, None));
    }
}
