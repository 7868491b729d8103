//! The table `work`, in the place of the ledger: what there is to do, and how often each item was
//! done.

use winddown::Claim;

pub(crate) enum Work {
    InFile(rusqlite::Connection),
    #[cfg(feature = "ledger-postgres")]
    OnServer(Box<postgres::Client>),
}

impl Work {
    /// Where `Way::address` says.
    pub(crate) fn at(address: &str) -> Self {
        #[cfg(feature = "ledger-postgres")]
        if let Some((url, _)) = address.split_once('#') {
            let client = postgres::Client::connect(url, postgres::NoTls).unwrap();
            return Self::OnServer(Box::new(client));
        }
        let connection = rusqlite::Connection::open(address).unwrap();
        connection.busy_timeout(crate::FAR).unwrap();
        Self::InFile(connection)
    }

    fn execute(&mut self, sql: &str) {
        match self {
            Self::InFile(connection) => connection.execute_batch(sql).unwrap(),
            #[cfg(feature = "ledger-postgres")]
            Self::OnServer(client) => client.batch_execute(sql).unwrap(),
        }
    }

    /// The first column, which is text.
    fn texts(&mut self, sql: &str) -> Vec<String> {
        match self {
            Self::InFile(connection) => {
                let mut query = connection.prepare_cached(sql).unwrap();
                let rows = query.query_map([], |row| row.get(0)).unwrap();
                rows.map(Result::unwrap).collect()
            }
            #[cfg(feature = "ledger-postgres")]
            Self::OnServer(client) => {
                let rows = client.query(sql, &[]).unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    pub(crate) fn make(&mut self) {
        self.execute("CREATE TABLE work (key TEXT PRIMARY KEY, done BIGINT NOT NULL)");
    }

    /// The items from the first to before the second.
    pub(crate) fn put(&mut self, from: u32, to: u32) {
        self.execute(&format!(
            "WITH RECURSIVE n(n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM n WHERE n < {to} - 1) \
             INSERT INTO work SELECT 'item ' || n, 0 FROM n"
        ));
    }

    pub(crate) fn some_open(&mut self) -> Vec<String> {
        self.texts("SELECT key FROM work WHERE done = 0 ORDER BY random() LIMIT 20")
    }

    pub(crate) fn is_done(&mut self, key: &str) -> bool {
        let done = format!("SELECT key FROM work WHERE done > 0 AND key = '{key}'");
        !self.texts(&done).is_empty()
    }

    /// In one transaction with the verdict of the claim. Whoever is late is told so, and goes on.
    pub(crate) fn complete(&self, claim: &Claim) {
        let key = claim.key();
        let more = format!("UPDATE work SET done = done + 1 WHERE key = '{key}'");
        let _ = match self {
            Self::InFile(_) => claim.complete_with(|tx| tx.execute_batch(&more)).is_ok(),
            #[cfg(feature = "ledger-postgres")]
            Self::OnServer(_) => {
                let part =
                    async |tx: &tokio_postgres::Transaction<'_>| tx.batch_execute(&more).await;
                claim.complete_with_postgres(part).is_ok()
            }
        };
    }

    /// Of how many items each is done how often: `"1 x 500"`.
    pub(crate) fn tally(&mut self) -> Vec<String> {
        let tally = "SELECT CAST(done AS TEXT) || ' x ' || CAST(count(*) AS TEXT) FROM work \
                     GROUP BY done ORDER BY done";
        self.texts(tally)
    }
}
