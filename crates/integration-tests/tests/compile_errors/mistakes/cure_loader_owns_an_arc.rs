use std::sync::Arc;

pub struct Database;

impl Database {
    async fn find(&self, id: u64) -> Result<String, std::io::Error> {
        Ok(format!("user {id}"))
    }
}

pub struct Users {
    cache: terrace::Cache<u64, String>,
    database: Arc<Database>,
}

impl Users {
    pub async fn find(&self, id: u64) -> terrace::Result<String> {
        let database = Arc::clone(&self.database);
        let user = self.cache.get_or_load(&id, || async move { database.find(id).await }).await?;
        Ok(user.to_string())
    }
}
