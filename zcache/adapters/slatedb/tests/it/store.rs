//! A store whose reads are counted, take their time, and fail now and then.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use slatedb::bytes::Bytes;
use slatedb::object_store::path::Path;
use slatedb::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

#[derive(Debug)]
pub(crate) struct Unsteady {
    inner: Arc<dyn ObjectStore>,
    time: Duration,
    /// One call in so many fails; 0 for none.
    pub(crate) failing: AtomicU64,
    calls: AtomicU64,
    reads: AtomicU64,
}

impl Unsteady {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, time: Duration, failing: u64) -> Arc<Self> {
        let (calls, reads) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { inner, time, failing: AtomicU64::new(failing), calls, reads })
    }

    /// Reads of files of data.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    async fn trouble(&self) -> Result<()> {
        if !self.time.is_zero() {
            tokio::time::sleep(self.time).await;
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let failing = self.failing.load(Ordering::Relaxed);
        if failing > 0 && call % failing == failing - 1 {
            return Err(Error::Generic { store: "unsteady", source: "a call fails".into() });
        }
        Ok(())
    }

    fn count(&self, location: &Path) {
        if location.as_ref().contains("/compacted/") {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Display for Unsteady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unsteady store")
    }
}

#[async_trait]
impl ObjectStore for Unsteady {
    async fn put_opts(&self, to: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.trouble().await?;
        self.inner.put_opts(to, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.trouble().await?;
        self.inner.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        self.count(from);
        self.trouble().await?;
        self.inner.get_opts(from, how).await
    }

    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count(from);
        self.trouble().await?;
        self.inner.get_ranges(from, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.trouble().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.trouble().await?;
        self.inner.copy_opts(from, to, how).await
    }
}
