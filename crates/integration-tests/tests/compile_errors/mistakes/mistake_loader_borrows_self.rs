//~ must outlive `'static`
pub struct Database;

impl Database {
    async fn find(&self, id: u64) -> Result<String, std::io::Error> {
        Ok(format!("user {id}"))
    }
}

pub struct Users {
    cache: terrace::Cache<u64, String>,
    database: Database,
}

impl Users {
    pub async fn find(&self, id: u64) -> terrace::Result<String> {
        let user = self.cache.get_or_load(&id, || self.database.find(id)).await?;
        Ok(user.to_string())
    }
}
