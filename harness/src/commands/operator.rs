//! `quorate operator`: runs `ConsistencyTest`s and `Scorecard`s of a cluster.

use anyhow::Result;
use clap::Args;

/// `quorate operator`.
#[derive(Debug, Args)]
pub struct OperatorArgs {
    /// Only the resources of this namespace; all by default.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Where its Lease is; by default its own namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = None)]
    pub lease_namespace: Option<String>,
}

/// Refuses.
///
/// # Errors
/// Always.
#[cfg(not(feature = "k8s"))]
pub fn run(_args: &OperatorArgs) -> Result<u8> {
    anyhow::bail!(super::k8s::NOT_BUILT_IN)
}

/// Serves until asked to end.
///
/// # Errors
/// One sentence that says why it cannot.
#[cfg(feature = "k8s")]
pub fn run(args: &OperatorArgs) -> Result<u8> {
    use anyhow::Context;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let host = std::env::var("POD_NAME").unwrap_or_else(|_| "outside".to_owned());
    // A container that is started anew in the same pod is another operator.
    let unique = crate::k8s::new_run();
    let operator = crate::k8s::operator::Operator {
        namespace: args.namespace.clone(),
        home: args
            .lease_namespace
            .clone()
            .or_else(|| std::env::var("POD_NAMESPACE").ok())
            .unwrap_or_else(|| k8s::operator::NAMESPACE.to_owned()),
        identity: format!("{host}-{}", unique.trim_start_matches("run-")),
    };
    runtime.block_on(async {
        let cluster = k8s::Cluster::connect().await?;
        operator.run(cluster).await
    })?;
    Ok(crate::exit::VALID)
}
