//! Images from archives, registries and our own executable.

mod common;

use common::{bed, busybox_archive, is_root, options, words};
use cri::{ImageService, RuntimeService};
use runtime::Runtime;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: needs {program}");
    }
    found
}

fn layers(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("root/images/layers")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_every_form_give_one_image() {
    let Some(bed) = bed().await else { return };
    let dir = bed.dir.path();
    let rt = bed.rt();
    assert_eq!(rt.list_images().await.unwrap()[0].repo_tags, ["docker.io/library/busybox:latest"]);
    let found = rt.image_status("busybox").await.unwrap().unwrap();
    assert_eq!(found.id, bed.image);
    assert_eq!(rt.image_status(&found.id[..19]).await.unwrap().unwrap().id, bed.image);
    assert!(rt.image_status("nope").await.unwrap().is_none());

    if has("skopeo") {
        let source = format!("docker-archive:{}", dir.join("busybox.tar").display());
        let oci = dir.join("layout");
        let archive = dir.join("oci.tar");
        run("skopeo", &["copy", "--insecure-policy", &source, &format!("oci:{}:example.org/box:1", oci.display())]);
        run(
            "skopeo",
            &["copy", "--insecure-policy", &source, &format!("oci-archive:{}:example.org/box:2", archive.display())],
        );
        for (path, tag) in [(&oci, "example.org/box:1"), (&archive, "example.org/box:2")] {
            let images = rt.import(path).await.unwrap();
            assert_eq!(images.len(), 1);
            assert!(images[0].repo_tags.contains(&tag.to_owned()), "{images:?}");
        }
        // The same layer under another compression: unpacked once.
        assert_eq!(layers(dir), 1);
        run("gzip", &["-k", &archive.to_string_lossy()]);
        rt.import(&dir.join("oci.tar.gz")).await.unwrap();
    }
    let broken = dir.join("broken.tar");
    let mut bytes = std::fs::read(dir.join("busybox.tar")).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&broken, &bytes).unwrap();
    for image in rt.list_images().await.unwrap() {
        rt.remove_image(&image.id).await.unwrap();
    }
    assert_eq!(layers(dir), 0, "layers of removed images are collected");
    let error = rt.import(&broken).await.unwrap_err().to_string();
    assert!(error.contains("wrong diff id"), "{error}");
    assert_eq!((layers(dir), std::fs::read_dir(dir.join("root/images/tmp")).unwrap().count()), (0, 0));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_in_use_stays() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let id = bed.start(&sandbox, &bed.shell("while true; do sleep 1; done")).await;
    bed.rt().remove_image("busybox").await.unwrap();
    assert_eq!(bed.exec(&id, "echo still here").await.1, "still here\n");
    bed.rt().remove_pod_sandbox(&sandbox).await.unwrap();
    bed.rt().images().collect().unwrap();
    assert_eq!(layers(bed.dir.path()), 0);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_may_import() {
    let Some(bed) = bed().await else { return };
    // A second store on the same directory stands for the command line's process: both see each other's images.
    let other = runtime::image::Store::open(&bed.dir.path().join("root")).unwrap();
    let archive = bed.dir.path().join("second.tar");
    std::fs::write(&archive, busybox_archive("second:1", &[("etc/marker", "x")])).unwrap();
    let record = runtime::image::archive::import(&other, &archive).unwrap().remove(0);
    assert_eq!(bed.rt().image_status("second:1").await.unwrap().unwrap().id, record.id);
    let sandbox = bed.sandbox().await;
    let mut config = bed.shell("cat /etc/marker");
    config.image = record.id;
    assert_eq!(bed.run(&sandbox, &config).await, (0, "x\n".to_owned()));

    // As an image volume, too.
    let mut config = bed.shell("cat /vol/marker; touch /vol/x || echo readonly");
    config.mounts.push(cri::Mount {
        container_path: "/vol".into(),
        image: Some("second:1".into()),
        image_sub_path: "etc".into(),
        ..Default::default()
    });
    let (_, out) = bed.run(&sandbox, &config).await;
    assert!(out.lines().any(|l| l == "xreadonly"), "{out}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_executable_is_an_image() {
    let Some(bed) = bed().await else { return };
    let exe = common::shim_exe();
    let image = bed.rt().ensure_hello(&exe).await.unwrap();
    assert!(image.pinned && image.repo_tags == ["skiff.local/hello:latest"]);
    assert_eq!(bed.rt().ensure_hello(&exe).await.unwrap().id, image.id);
    assert_eq!(bed.rt().pull_image("skiff.local/hello", &[]).await.unwrap(), image.id);
    let sandbox = bed.sandbox().await;
    let mut config = bed.shell("");
    config.image = image.id;
    config.command.clear();
    // The shim's own usage error proves that the executable runs without anything else in its root.
    assert_eq!(bed.run(&sandbox, &config).await.0, 2);
    bed.finish().await;
}

struct Registry(std::process::Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_from_a_registry_with_a_password() {
    if !is_root() || !has("skopeo") || !has("docker-registry") {
        return;
    }
    let Some(bed) = bed().await else { return };
    let dir = bed.dir.path();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // bcrypt of "secret" for the user "me".
    std::fs::write(dir.join("htpasswd"), format!("me:{}\n", BCRYPT)).unwrap();
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {0}/registry\nhttp:\n  addr: 127.0.0.1:{port}\nauth:\n  htpasswd:\n    realm: test\n    path: {0}/htpasswd\n",
        dir.display()
    );
    std::fs::write(dir.join("registry.yml"), config).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(dir.join("registry.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _registry = Registry(child);
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "registry does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let name = format!("127.0.0.1:{port}/team/box:1");
    let source = format!("docker-archive:{}", dir.join("busybox.tar").display());
    run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "--dest-creds",
            "me:secret",
            &source,
            &format!("docker://{name}"),
        ],
    );
    bed.rt().remove_image("busybox").await.unwrap();

    let text = |e: cri::Error| match e {
        cri::Error::Pull { reason, message } => format!("{reason}: {message}"),
        other => panic!("{other}"),
    };
    let denied = text(bed.rt().pull_image(&name, &[]).await.unwrap_err());
    assert!(
        denied.starts_with(&format!(
            "ErrImagePull: failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\""
        )),
        "{denied}"
    );
    assert!(denied.contains("authorization"), "{denied}");
    let wrong = cri::AuthConfig { username: "me".into(), password: "wrong".into(), ..Default::default() };
    let right = cri::AuthConfig { username: "me".into(), password: "secret".into(), ..Default::default() };
    assert!(bed.rt().pull_image(&name, std::slice::from_ref(&wrong)).await.is_err());
    let id = bed.rt().pull_image(&name, &[wrong, right.clone()]).await.unwrap();
    let image = bed.rt().image_status(&name).await.unwrap().unwrap();
    assert_eq!(image.id, id);
    assert!(image.repo_digests[0].starts_with(&format!("127.0.0.1:{port}/team/box@sha256:")));
    assert_eq!(bed.rt().pull_image(&image.repo_digests[0], std::slice::from_ref(&right)).await.unwrap(), id);
    let missing = text(bed.rt().pull_image(&format!("127.0.0.1:{port}/team/box:none"), &[right]).await.unwrap_err());
    assert!(missing.contains("not found"), "{missing}");
    let refused = text(bed.rt().pull_image("127.0.0.1:1/x", &[]).await.unwrap_err());
    assert!(refused.contains("connection refused") || refused.contains("Connection refused"), "{refused}");
    assert!(text(bed.rt().pull_image("Bad Name", &[]).await.unwrap_err()).starts_with("InvalidImageName"));

    let sandbox = bed.sandbox().await;
    let mut config = bed.shell("");
    config.image = id;
    config.command = words("echo pulled");
    assert_eq!(bed.run(&sandbox, &config).await, (0, "pulled\n".to_owned()));
    bed.finish().await;
}

const BCRYPT: &str = "$2b$04$2rGLQ7VHS9s8Qg7TtLFtN.vsjE1VqqbzMcpzg.uSoARF7oJHRRhw6";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_leaves_no_trace() {
    let Some(mut bed) = bed().await else { return };
    let leftover = bed.dir.path().join("root/images/tmp/layer-1-0/fs");
    std::fs::create_dir_all(&leftover).unwrap();
    // Whole, but its image was never committed.
    let layers = bed.dir.path().join("root/images/layers");
    let nobodys = layers.join("0123456789abcdef0123");
    std::fs::create_dir_all(nobodys.join("fs")).unwrap();
    let used = std::fs::read_dir(&layers).unwrap().count() - 1;
    drop(bed.runtime.take());
    bed.runtime = Some(Runtime::open(options(bed.dir.path())).await.unwrap());
    assert!(!leftover.exists());
    assert!(!nobodys.exists());
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), used);
    assert_eq!(bed.rt().list_images().await.unwrap().len(), 1);
    bed.finish().await;
}
