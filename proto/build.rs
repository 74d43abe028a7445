//! Compiles the protocol files with protox, so that no protoc is needed.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "postrider/envelope/v1/envelope.proto",
        "postrider/event/v1/event.proto",
        "postrider/config/v1/config.proto",
        "postrider/control/v1/member.proto",
        "postrider/control/v1/shard.proto",
        "postrider/egress/v1/limit.proto",
        "postrider/control/v1/control.proto",
        "postrider/control/v1/audit.proto",
        "postrider/control/v1/operator.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=postrider");
    Ok(())
}
